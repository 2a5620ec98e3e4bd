"""Where a run keeps its leases and requests: the `coordination` choices."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from fednano.core.clock import Clock

if TYPE_CHECKING:
    # Imported late: most runs need no Redis.
    from fednano.coordination.embedded import EmbeddedRedis
    from fednano.coordination.redis_link import Address
    from fednano.coordination.redis_store import RedisStore

Kind = Literal["auto", "memory", "embedded", "redis"]


@dataclass(frozen=True)
class Coordination:
    """A `coordination` choice.

    Args:
        kind: memory, within this process; embedded, a Redis server that the run starts for itself; redis, one that is
            there; auto: memory where all clients live in this process, embedded elsewhere.
        url_env: the environment variable that holds the URL of kind=redis. The URL itself belongs into no file.
        ca_file: certificates of the authorities that vouch for a rediss:// server; null: those of the system.
    """

    kind: Kind
    url_env: str = "FEDNANO_REDIS_URL"
    ca_file: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(
                f"coordination.kind must be one of {', '.join(get_args(Kind))}, got {self.kind}; choose one of them"
            )
        if not self.url_env.isidentifier():
            raise ValueError(f"coordination.url_env={self.url_env} names no environment variable; use letters and _")
        if self.ca_file is not None and self.kind != "redis":
            raise ValueError(f"coordination.ca_file={self.ca_file} is of no use with kind={self.kind}; use kind=redis")

    def check(self, runtime: str, in_process: bool) -> None:
        """Raise ValueError unless it suits a runtime whose clients live in this process, or do not, and answers."""
        if in_process and self.kind in ("embedded", "redis"):
            raise ValueError(
                f"coordination.kind={self.kind} coordinates other processes, and runtime={runtime} has none; "
                "use coordination=auto"
            )
        if not in_process and self.kind == "memory":
            raise ValueError(
                f"coordination.kind=memory does not reach the clients of runtime={runtime}; use coordination=auto"
            )
        if self.kind == "redis":
            from fednano.coordination.redis_link import Link

            with closing(Link(self._address(), "check")) as link:
                link.check()

    @contextmanager
    def serving(self) -> Iterator["Serving"]:
        """Redis for a run whose clients are elsewhere; an embedded server lives as long as the block."""
        if self.kind == "redis":
            yield Serving(self._address())
        else:
            from fednano.coordination.embedded import EmbeddedRedis

            with EmbeddedRedis() as server:
                yield Serving(server.address, server)

    def store(self, run: str, clock: Clock) -> "RedisStore":
        """The server's side, in a process that was started with `Serving.environment`. Raises ValueError."""
        from fednano.coordination.redis_store import RedisStore

        return RedisStore(self._address(), run, clock)

    def _address(self) -> "Address":
        from fednano.coordination.redis_link import Address

        return Address.from_environment(self.url_env, self.ca_file)


@dataclass(frozen=True)
class Serving:
    """A Redis server that is there; `server` where it is the run's own."""

    address: "Address"
    server: "EmbeddedRedis | None" = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that tell child processes the address. They hold its password: never log them."""
        return self.address.environment

    def tend(self) -> bool:
        """Restart a server of the run's own that has died; whether it had. Raises RuntimeError if that fails."""
        if self.server is None or self.server.alive():
            return False
        self.server.restart()
        return True
