"""Starts a node's processes, starts them again when they die, and ends them with itself."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from fednano.config.errors import BAD_INPUT, REFUSAL
from fednano.core.clock import wall
from fednano.core.interrupts import asked_to_end
from fednano.process.lifeline import Lifeline
from fednano.report import units

FIRST_S, MOST_S = 1.0, 30.0  # before a restart; doubled while a program keeps dying
LINE_BYTES = 4096  # that a line has at most
SOUND_S = 60.0  # who lived as long starts over at FIRST_S


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is to run.

    Args:
        name: what it is called in lines about it.
        command: with its arguments.
        environment: beside this process's own.
        log: the file that takes its output; None: where this process writes.
        leave_s: seconds that it is given to end by itself.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None
    leave_s: float = 10.0


@dataclass(kw_only=True)
class _Running:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0  # when it is to be started again
    starts: int = 0
    failures: int = 0


class Supervisor:
    """Keeps programs running until it is asked to end by SIGTERM or SIGINT; a second signal ends it at once.

    Children are in sessions of their own, so that Ctrl-C reaches this process alone, and end with it by a lifeline.

    Args:
        programs: in the order in which they are ended.
        say: shows a line.
    """

    def __init__(self, programs: Sequence[Program], say: Callable[[str], None]) -> None:
        self._children = [_Running(program=program) for program in programs]
        self._say = say
        self._news: SimpleQueue[tuple[_Running, int] | None] = SimpleQueue()  # who ended, and how; None: end all
        self._lifeline = Lifeline()

    def run(self) -> int:
        """Until a signal comes, or a program refuses its input; the exit code."""
        code = 0
        with asked_to_end(lambda: self._news.put(None)):
            try:
                while (code := self._turn()) == 0:
                    pass
            except _AskedError:
                code = 0
            finally:
                self._end()
                self._lifeline.close()
        return code

    def _turn(self) -> int:
        """Start what is due and wait for the next news; BAD_INPUT where a program was given bad input, else 0."""
        for child in self._children:
            if child.process is None and child.due <= wall():
                self._start(child)
        due = [child.due for child in self._children if child.process is None]
        try:
            news = self._news.get(timeout=max(0.0, min(due) - wall()) if due else None)
        except Empty:
            return 0
        if news is None:
            raise _AskedError
        return self._ended(*news)

    def _start(self, child: _Running) -> None:
        program = child.program
        log = program.log.open("ab") if program.log else None
        try:
            process = subprocess.Popen(
                program.command,
                env={**os.environ, **program.environment, **self._lifeline.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT if log else None,
                pass_fds=[self._lifeline.descriptor],
                start_new_session=True,
            )
        finally:
            if log:
                log.close()
        child.process, child.started, child.starts = process, wall(), child.starts + 1
        Thread(target=lambda: self._news.put((child, process.wait())), daemon=True).start()
        self._say(f"{program.name} started, process {process.pid}")

    def _ended(self, child: _Running, code: int) -> int:
        if child.process:
            _end_group(child.process)
        child.process = None
        log = f" ({_cause(child.program.log)})" if child.program.log else ""
        if code == BAD_INPUT and child.starts == 1:  # later it is not the input that has changed
            self._say(f"{child.program.name} refuses what it was given{log}; the node ends")
            return BAD_INPUT
        child.failures = 1 if wall() - child.started > SOUND_S else child.failures + 1
        pause_s = min(MOST_S, FIRST_S * 2 ** (child.failures - 1))
        child.due = wall() + pause_s
        self._say(f"{child.program.name} {_described(code)}{log}; again in {units.duration(pause_s)}")
        return 0

    def _end(self) -> None:
        for child in self._children:
            process = child.process
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(child.program.leave_s)
                self._say(f"{child.program.name} ended")
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                self._say(f"{child.program.name} did not end within {units.duration(child.program.leave_s)}; killed")
            _end_group(process)


class _AskedError(Exception):
    """The supervisor is asked to end."""


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End what a program that has ended left behind: Flower's processes notice only later, and may be slow to."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _cause(log: Path) -> str:
    """The last line of a log where that says why a command refuses its input, else where to look."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LINE_BYTES))
        last = file.read().decode("utf-8", "replace").rstrip().rpartition("\n")[2]
    return last.removeprefix(REFUSAL) if last.startswith(REFUSAL) else f"see {log}"


def _described(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
