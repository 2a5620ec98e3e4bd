"""Child processes, each with a log, that end with the process that started them."""

import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from os import killpg
from pathlib import Path
from threading import Lock

from fednano.process import guard

TAIL_LINES = 12
TAIL_BYTES = 16_384
TOLD = 2  # number of lines that a guard sends
LATE_S = 1.0  # for a guard to do its work beyond waiting
# By its path and without the paths of installed packages, a guard starts in a third of the time.
GUARD = (sys.executable, "-I", "-S", guard.__file__)


class Child:
    """A command in a session of its own, so that only its starter gets a Ctrl-C on the terminal.

    It ends with its starter, even if the starter is killed: a guard (`process/guard.py`) stands between the two.
    Everything that the command leaves in its process group ends with it; on Linux, everything that it leaves. One
    thread may wait for it while another stops it.

    Args:
        name: the name shown to people.
        command: program and arguments; no secrets, since process lists show them.
        log: the file that its output is appended to; None: it writes where this process does.
        environment: all of its environment variables.
        grace_s: seconds for it to end by itself when asked to; with 0 it is killed without being asked.
        orphan_s: the same if its starter is gone; None: `grace_s`.
        fed: what it reads from its standard input, which may be secret; at most 4096 bytes.
        noise: substrings of log lines that say nothing about how it ended.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path | None,
        environment: Mapping[str, str],
        grace_s: float = 3.0,
        orphan_s: float | None = None,
        fed: bytes = b"",
        noise: Sequence[str] = (),
    ) -> None:
        assert len(fed) <= guard.MOST_FED, "more would block until it is read"
        self.name = name
        self.command = [str(word) for word in command]
        self.log = log
        self.grace_s = grace_s
        self._orphan_s = grace_s if orphan_s is None else orphan_s
        # The log is read as UTF-8, and no sign that it cannot hold may end the command.
        self._environment = {**environment, **({"PYTHONIOENCODING": "utf-8:replace"} if log else {})}
        self._fed = fed
        self._noise = tuple(noise)
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None  # to the guard, as long as the guard may send something
        self._said = b""
        self._hearing = Lock()

    def start(self) -> None:
        """Start it, or restart it once it has ended or was stopped."""
        figures = [str(self.grace_s), str(self._orphan_s), str(len(self._fed))]
        log = self.log.open("ab") if self.log else None
        self._link, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [*GUARD, *figures, *self.command],
                stdin=theirs.fileno(),
                stdout=log,
                stderr=subprocess.STDOUT if log else None,
                env=self._environment,
                start_new_session=True,
            )
        except BlockingIOError as error:
            self._link.close()
            self._link = None
            raise RuntimeError(f"{self.name} cannot be started: {error.strerror}; raise ulimit -u") from error
        finally:
            theirs.close()
            if log:
                log.close()
        self._said = b""
        self._tell(self._fed)

    @property
    def ended(self) -> int | None:
        """The exit code, negative for a signal's number; None while it runs."""
        if self._process is None or self._process.poll() is None:
            return None
        # If the guard sent no exit code, the guard itself was killed.
        lines = self._heard(TOLD)
        return lines[1] if len(lines) == TOLD else self._process.returncode

    @property
    def pid(self) -> int | None:
        """The id of the command's process; waits until it is known. None if there is no process."""
        lines = self._heard(1)
        return (lines[0] if lines else 0) or None

    @property
    def guard(self) -> int | None:
        """The id of the guard's process; the command and everything that it started are its descendants."""
        return self._process.pid if self._process else None

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait until it ends; returns the exit code. Raises subprocess.TimeoutExpired."""
        assert self._process, "it was not started"
        self._process.wait(timeout_s)
        code = self.ended
        assert code is not None
        return code

    def tail(self) -> str:
        """The last lines of its log, without noise."""
        if self.log is None or not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").splitlines()
        telling = [line.rstrip() for line in lines if not any(mark in line for mark in self._noise)]
        return "\n".join(telling[-TAIL_LINES:])

    def how(self) -> str:
        """How it ended, as the predicate of a sentence."""
        code = self.ended or 0
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def cause(self) -> str:
        """One line that says how it ended, for an error's text."""
        return f"{self.name} {self.how()}" + (f"; its log is {self.log}" if self.log else "")

    def ask(self) -> None:
        """Ask it to end without waiting; `stop` waits. For ending several at the same time."""
        self._tell(b"end")

    def stop(self) -> bool:
        """End it and everything left of its process group; returns whether it ended before it was killed.

        Does nothing if it does not run.
        """
        process = self._process
        if process is None:
            return True
        self.ask()
        with suppress(subprocess.TimeoutExpired):
            process.wait(self.grace_s + LATE_S)
        # If the guard was killed, its command may still run.
        with suppress(ProcessLookupError):
            killpg(process.pid, signal.SIGKILL)
        return self.wait() != -signal.SIGKILL

    def _tell(self, said: bytes) -> None:
        link = self._link
        if link:
            with suppress(OSError):  # it has ended in the meantime
                link.sendall(said)

    def _heard(self, lines: int) -> list[int]:
        """The first `lines` numbers that the guard sends, one a line; fewer if it ends before."""
        with self._hearing:
            while self._link and self._said.count(b"\n") < lines:
                try:
                    more = self._link.recv(64)
                except ConnectionError:
                    more = b""
                self._said += more
                if not more or self._said.count(b"\n") == TOLD:
                    self._link.close()
                    self._link = None
            return [int(line) for line in self._said.split(b"\n")[:-1]]
