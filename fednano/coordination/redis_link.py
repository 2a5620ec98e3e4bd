"""The connection to Redis: where it is, how keys are named, and what its errors mean. No other module imports redis."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

URL_VARIABLE, CA_VARIABLE = "FEDNANO_REDIS_URL", "FEDNANO_REDIS_CA"
TIMEOUT_S = 2.0
BEAT_S = 1.0  # between two heartbeats of a node
BEATS = 3  # that a node may miss
DAY_MS = 86_400_000
NAME = re.compile(r"[\w.@-]{1,128}")

RedisCommand = tuple[str | int, ...]


class LostError(Exception):
    """Redis cannot be reached now; it may come back."""


@dataclass(frozen=True)
class Address:
    """Where Redis is.

    Args:
        url: redis://, rediss:// (TLS) or unix://, with user name and password where the server wants them.
        ca_file: certificates of the authorities that vouch for a rediss:// server; None: those of the system.
        source: the environment variable that held the URL; errors name it in place of the URL.
    """

    url: str = field(repr=False)
    ca_file: str | None = None
    source: str = URL_VARIABLE

    def __post_init__(self) -> None:
        # Errors of the parser quote pieces of the URL, which may be the password's.
        try:
            parts = urlsplit(self.url)
            where = parts.path if parts.scheme == "unix" else parts.hostname
            valid = parts.scheme in ("redis", "rediss", "unix") and where and (parts.port or 1)
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(f"{self.source} holds no address; set it to redis[s]://[USER:PASSWORD@]HOST[:PORT][/DB]")
        if self.ca_file is None:
            return
        if parts.scheme != "rediss":
            raise ValueError(
                f"the CA file {self.ca_file} is of no use with {parts.scheme}://; use rediss:// or omit it"
            )
        if not Path(self.ca_file).is_file():
            raise ValueError(f"the CA file {self.ca_file} does not exist; name a file of certificates in PEM")

    @classmethod
    def from_environment(cls, variable: str = URL_VARIABLE, ca_file: str | None = None) -> "Address":
        """The address in an environment variable, or in the one that a run sets for its processes.

        Raises ValueError where neither is set or what is set is no address.
        """
        source = variable if os.environ.get(variable) else URL_VARIABLE
        url = os.environ.get(source)
        if not url:
            raise ValueError(f"the environment variable {variable} is not set; set it to the URL of a Redis server")
        return cls(url, ca_file or os.environ.get(CA_VARIABLE) or None, source)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that tell a child process this address."""
        return {URL_VARIABLE: self.url, CA_VARIABLE: self.ca_file or ""}

    @property
    def host(self) -> str:
        """Where it is, without secrets."""
        parts = urlsplit(self.url)
        return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"


class Link:
    """Commands to Redis for one run; its keys begin with `fednano:RUN:`. Opens a connection when it first needs one.

    Raises:
        ValueError: an address or a run's name that cannot be.
    """

    def __init__(self, address: Address, run: str) -> None:
        if not NAME.fullmatch(run):
            raise ValueError(f"run={run} cannot be part of a key; use letters, digits, dots and dashes")
        self.prefix = f"fednano:{run}:"
        self._address = address
        tls = {"ssl_ca_certs": address.ca_file} if address.ca_file else {}
        # Whoever uses it decides when to try again.
        self._redis = Redis.from_url(
            address.url,
            decode_responses=True,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            **tls,
        )

    def key(self, *parts: str | int) -> str:
        return self.prefix + ":".join(map(str, parts))

    def check(self) -> None:
        """Raise ValueError, with what to do and without the password, unless the server answers."""
        try:
            self.transact([("PING",)])
        except LostError as error:
            raise ValueError(
                f"{self._address.source}: no Redis server answers at {self._address.host} ({error}); start it or "
                "correct the address"
            ) from None

    def answers(self) -> bool:
        """Whether the server is there and takes us."""
        try:
            return bool(self.transact([("PING",)]))
        except (LostError, ValueError):
            return False

    def transact(self, commands: Iterable[RedisCommand]) -> list[Any]:
        """What the commands answer, all done at once or none.

        Raises:
            LostError: the server is not there, or not yet.
            ValueError: the server refuses who we are, or what we may do.
        """
        try:
            with self._redis.pipeline(transaction=True) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
                return pipeline.execute()
        except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
            raise ValueError(
                f"{self._address.source}: Redis at {self._address.host} refuses the user name or password, or what "
                f"the user may do ({error}); correct the URL or the server's ACL"
            ) from None
        except (RedisConnectionError, RedisTimeoutError) as error:
            raise LostError(str(error)) from error
        except RedisError as error:
            raise RuntimeError(f"Redis at {self._address.host} failed: {error}") from error

    def keys(self, pattern: str) -> list[str]:
        """The run's keys that match, found without blocking the server. Raises LostError."""
        cursor, found = "0", set()
        while True:
            ((cursor, page),) = self.transact([("SCAN", cursor, "MATCH", self.prefix + pattern, "COUNT", 1000)])
            found.update(page)
            if int(cursor) == 0:
                return sorted(found)

    def close(self) -> None:
        self._redis.close()
