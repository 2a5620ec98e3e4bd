"""The `coordination` choices: where a run keeps its leases and requests."""

from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from fednano.config.paths import UserPath
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
        kind: memory, in this process; embedded, a Redis server that the run starts itself; redis, a server that already
            runs; auto: memory if all clients live in this process, embedded otherwise.
        url_env: environment variable that holds the URL of kind=redis, redis[s]://[USER:PASSWORD@]HOST[:PORT][/DB];
            REDIS_URL if it is unset. Never write the URL itself into a file.
        ca_file: PEM file of the certificate authority of a rediss:// server; null: the system's.
    """

    kind: Kind
    url_env: str = "FEDNANO_REDIS_URL"
    ca_file: UserPath | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(
                f"coordination.kind must be one of {', '.join(get_args(Kind))}, got {self.kind}; choose one of them"
            )
        if not self.url_env.isidentifier():
            raise ValueError(
                f"coordination.url_env must be the name of an environment variable, got {self.url_env}; "
                "use letters, digits and _"
            )
        if self.ca_file is not None and self.kind != "redis":
            raise ValueError(
                f"coordination.ca_file must be null with coordination.kind={self.kind}, got {self.ca_file}; "
                "use coordination=redis or remove it"
            )

    def check(self, runtime: str, in_process: bool) -> None:
        """Raise ValueError unless the store answers and can reach the runtime's clients, in this process or others."""
        if in_process and self.kind in ("embedded", "redis"):
            raise ValueError(
                f"coordination.kind must be auto or memory with runtime={runtime}, which has no other processes, "
                f"got {self.kind}; use coordination=auto"
            )
        if not in_process and self.kind == "memory":
            raise ValueError(
                f"coordination.kind must not be memory with runtime={runtime}, whose clients are other processes, "
                "got memory; use coordination=auto"
            )
        if self.kind == "redis":
            from fednano.coordination.redis_link import Link

            with closing(Link(self._address(), "check")) as link:
                link.check()

    @contextmanager
    def serving(self) -> Iterator["Serving"]:
        """Redis for a run with clients in other processes; an embedded server lives as long as the block."""
        if self.kind == "redis":
            yield Serving(self._address())
        else:
            from fednano.coordination.embedded import EmbeddedRedis

            with EmbeddedRedis() as server:
                yield Serving(server.address, server)

    def store(self, run: str, clock: Clock, clients: Collection[str] | None = None) -> "RedisStore":
        """The server's side of the store, in a process started with `Serving.environment`. Raises ValueError."""
        from fednano.coordination.redis_store import RedisStore

        return RedisStore(self._address(), run, clock, clients=clients)

    def _address(self) -> "Address":
        from fednano.coordination.redis_link import Address

        return Address.from_environment(self.url_env, self.ca_file)


@dataclass(frozen=True)
class Serving:
    """A running Redis server; `server` is set if it is the run's own."""

    address: "Address"
    server: "EmbeddedRedis | None" = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that pass the address to child processes. They hold the password: never log them."""
        return self.address.environment

    def tend(self) -> bool:
        """Restart the run's own server if it has died; returns whether it had. Raises RuntimeError if that fails."""
        if self.server is None or self.server.alive():
            return False
        self.server.restart()
        return True
