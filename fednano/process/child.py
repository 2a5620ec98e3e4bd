"""Processes that a runner starts, with a log file each, and that end with it."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from fednano.process import guard

TAIL_LINES = 12
TAIL_BYTES = 16_384


class Child:
    """A command in a session of its own, so that a Ctrl-C on the terminal is the runner's alone.

    It ends with the runner, also when that is killed.

    Args:
        name: what people call it.
        command: program and arguments; no secrets, which process lists would show.
        log: takes its output, behind what is there.
        environment: all of its environment variables.
        grace_s: seconds that it is given to end by itself.
        noise: marks lines of the log that say nothing of how it ended.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str],
        grace_s: float = 3.0,
        noise: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.log = log
        self._command = [str(word) for word in command]
        self._environment = dict(environment)
        self._grace_s = grace_s
        self._noise = tuple(noise)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it anew."""
        guarded = [sys.executable, "-m", guard.__name__, str(self._grace_s), *self._command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                guarded,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )

    @property
    def ended(self) -> int | None:
        """The exit code, negative for a signal's number; None while it runs."""
        return self._process.poll() if self._process else None

    @property
    def pid(self) -> int | None:
        """The id of the guard's process, which leads the command's group."""
        return self._process.pid if self._process else None

    def tail(self) -> str:
        """The last lines of its log, but for noise."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").splitlines()
        telling = [line.rstrip() for line in lines if not any(mark in line for mark in self._noise)]
        return "\n".join(telling[-TAIL_LINES:])

    def cause(self) -> str:
        """One line that says how it ended, for an error's text."""
        code = self.ended or 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{self.name} {how}; its log is {self.log}"

    def ask(self) -> None:
        """Let it begin to end; `stop` waits for it. For several that are to end at the same time."""
        if self._process and self._process.stdin:
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def stop(self) -> None:
        """End it, and whatever is left of its process group. Does nothing where it does not run."""
        process = self._process
        if process is None:
            return
        self.ask()
        with suppress(subprocess.TimeoutExpired):
            process.wait(self._grace_s + 1.0)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
