"""The connection to Redis: its address, names of keys, and errors. No other module imports redis."""

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
HEARTBEAT_S = 1.0  # between two heartbeats of a node
HEARTBEATS = 3  # heartbeats that a node may miss
DAY_MS = 86_400_000
NAME = re.compile(r"[\w.@-]{1,128}")

RedisCommand = tuple[str | int, ...]


class LostError(Exception):
    """Redis cannot be reached at the moment; it may come back."""


@dataclass(frozen=True)
class Address:
    """The address of Redis.

    Args:
        url: redis://, rediss:// (TLS) or unix://, with user name and password if the server wants them.
        ca_file: PEM file of the certificate authority of a rediss:// server; None: the system's.
        source: the environment variable that held the URL; errors name it instead of the URL.
    """

    url: str = field(repr=False)
    ca_file: str | None = None
    source: str = URL_VARIABLE

    def __post_init__(self) -> None:
        # The parser's errors quote parts of the URL, which may hold the password.
        try:
            parts = urlsplit(self.url)
            where = parts.path if parts.scheme == "unix" else parts.hostname
            valid = parts.scheme in ("redis", "rediss", "unix") and where and (parts.port or 1)
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(
                f"{self.source} must be the URL of a Redis server; set it to redis[s]://[USER:PASSWORD@]HOST[:PORT][/DB]"
            )
        if self.ca_file is None:
            return
        if parts.scheme != "rediss":
            raise ValueError(
                f"the CA file must be omitted with {parts.scheme}://, got {self.ca_file}; use rediss:// or omit it"
            )
        if not Path(self.ca_file).is_file():
            raise ValueError(f"the CA file must exist, got {self.ca_file}; name a PEM file of certificates")

    @classmethod
    def from_environment(cls, variable: str = URL_VARIABLE, ca_file: str | None = None) -> "Address":
        """The address in `variable`, or else in the variable that a run sets for its processes.

        Raises ValueError if neither is set, or the value is not an address.
        """
        source = variable if os.environ.get(variable) else URL_VARIABLE
        url = os.environ.get(source)
        if not url:
            raise ValueError(f"the environment variable {variable} is not set; set it to the URL of a Redis server")
        return cls(url, ca_file or os.environ.get(CA_VARIABLE) or None, source)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that pass this address to a child process."""
        return {URL_VARIABLE: self.url, CA_VARIABLE: self.ca_file or ""}

    @property
    def host(self) -> str:
        """Host and port, or the socket's path; without secrets."""
        parts = urlsplit(self.url)
        return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"


class Link:
    """Commands to Redis for one run, whose keys begin with `fednano:RUN:`. Connects when first needed.

    Raises:
        ValueError: an invalid address or run id.
    """

    def __init__(self, address: Address, run: str) -> None:
        if not NAME.fullmatch(run):
            raise ValueError(f"run must be 1 to 128 letters, digits, dots or dashes, got {run}; choose another id")
        self.prefix = f"fednano:{run}:"
        self._address = address
        tls = {"ssl_ca_certs": address.ca_file} if address.ca_file else {}
        # No retries here: the caller decides when to try again.
        self._redis = Redis.from_url(
            address.url,
            decode_responses=True,
            encoding_errors="replace",  # anybody with the password may write bytes that are no text
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            **tls,
        )

    def key(self, *parts: str | int) -> str:
        return self.prefix + ":".join(map(str, parts))

    def check(self) -> None:
        """Raise ValueError, with a remedy and without the password, unless the server answers."""
        try:
            self.transact([("PING",)])
        except LostError as error:
            raise ValueError(
                f"{self._address.source}: no Redis server answers at {self._address.host} ({error}); start it or "
                "correct the address"
            ) from None

    def answers(self) -> bool:
        """Whether the server answers and accepts the user."""
        try:
            return bool(self.transact([("PING",)]))
        except (LostError, ValueError):
            return False

    def read(self, commands: Iterable[RedisCommand]) -> list[Any]:
        """`transact`, with None as the answer of a command that fails because its key holds another type of value."""
        return self.transact(commands, lenient=True)

    def transact(self, commands: Iterable[RedisCommand], lenient: bool = False) -> list[Any]:
        """The answers to the commands, which run as one transaction; `lenient` is for `read`.

        Raises:
            LostError: the server cannot be reached, or not yet.
            ValueError: the server refuses the user, or a command to this user.
        """
        try:
            with self._redis.pipeline(transaction=True) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
                answers = pipeline.execute(raise_on_error=False)
            for index, answer in enumerate(answers):
                if isinstance(answer, Exception):
                    if not lenient or not str(answer).startswith("WRONGTYPE"):
                        raise answer
                    answers[index] = None
            return answers
        except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
            raise ValueError(
                f"{self._address.source}: Redis at {self._address.host} refuses the user name or password, or a "
                f"command of this user ({error}); correct the URL or the server's ACL"
            ) from None
        except (RedisConnectionError, RedisTimeoutError) as error:
            raise LostError(str(error)) from error
        except RedisError as error:
            raise RuntimeError(f"Redis at {self._address.host} failed: {error}") from error

    def keys(self, pattern: str) -> list[str]:
        """The run's keys that match `pattern`, found without blocking the server. Raises LostError."""
        cursor, found = "0", set()
        while True:
            ((cursor, page),) = self.transact([("SCAN", cursor, "MATCH", self.prefix + pattern, "COUNT", 1000)])
            found.update(page)
            if int(cursor) == 0:
                return sorted(found)

    def close(self) -> None:
        self._redis.close()
