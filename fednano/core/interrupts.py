"""What signals do to a command: end it at once, end what it makes in order, or ask a run to stop.

A command begins with `end_at_signals`, before it imports anything that is slow to import. From then on a signal ends it
with one line and no traceback, whatever is being imported. Where something is half made, `unwinding` has the signal
raise instead, so that what is half made is removed. A run handles signals itself, with `asked_to_end`.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LINE = "fednano: interrupted\n"
ECHO_S = 0.5
SHOW_CURSOR = "\x1b[?25h"  # a live display hides it


class SignalledError(KeyboardInterrupt):
    """A signal came; only a command catches this, to end with `code`."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = exit_code(number)


def exit_code(number: int) -> int:
    """The exit code of a command that a signal ended: as in a shell, but SIGHUP counts as SIGTERM."""
    return 128 + (signal.SIGTERM if number == signal.SIGHUP else number)


def code_of(interrupt: KeyboardInterrupt) -> int:
    """The exit code of a command that this exception ended."""
    return interrupt.code if isinstance(interrupt, SignalledError) else exit_code(signal.SIGINT)


def end_at_signals() -> None:
    """From now on a signal ends this process at once, with one line and the exit code of the signal."""
    for number in _heeded():
        signal.signal(number, _end)


@contextmanager
def unwinding() -> Iterator[None]:
    """Within the block, a signal that would end the process at once raises SignalledError; a second one ends it.

    Does nothing where signals mean something else, as in a run, and in other threads than the main one.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not _end:
        yield
        return

    def handle(number: int, frame: FrameType | None) -> NoReturn:
        end_at_signals()
        raise SignalledError(number)

    for number in _heeded():
        signal.signal(number, handle)
    try:
        yield
    finally:
        end_at_signals()


@dataclass
class EndAsked:
    """The first signal of a block that was asked to end; None before it."""

    number: int | None = None

    @property
    def code(self) -> int:
        """The exit code of a command that ended because it was asked to."""
        return exit_code(self.number or signal.SIGINT)

    def pass_on(self) -> None:
        """If the manager of a cluster's job asked, let it act now that the run has ended: it queues the job again.

        What it raises, SystemExit above all, ends this process.
        """
        if self.number is not None and self.number in preemption():
            signal.raise_signal(self.number)


@contextmanager
def asked_to_end(
    told: Callable[[], None], again: bool = False, at: Sequence[signal.Signals] = ()
) -> Iterator[EndAsked]:
    """Call `told` at the first signal within the block; a second one ends the process at once.

    The same signal within `ECHO_S` seconds is no second one: `uv run` passes on what its whole group has got already.

    With `again`, `told` is called at every signal. It runs in a signal handler. `at` names the signals of the manager
    of a cluster's job, which are heeded beside SIGINT; it deals with the others itself.
    """
    from fednano.core.clock import wall  # here, since a command heeds signals before its imports

    asked, first_at = EndAsked(), 0.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first_at
        if asked.number is None or again:
            first_at = first_at or wall()
            asked.number = asked.number or number
            told()
        elif number != asked.number or wall() - first_at >= ECHO_S:
            _end(number, frame)

    before = {number: signal.signal(number, handle) for number in ([signal.SIGINT, *at] if at else _heeded())}
    try:
        yield asked
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def preemption() -> tuple[signal.Signals, ...]:
    """The signal with which submitit, if it runs this process, says that the job's time is up; otherwise none."""
    number = getattr(signal, f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}", None)
    if "SUBMITIT_EXECUTOR" not in os.environ or number is None or not callable(signal.getsignal(number)):
        return ()
    return (number,)


def _heeded() -> list[signal.Signals]:
    """The signals that a command heeds: under nohup, SIGHUP stays ignored."""
    return [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]


def _end(number: int, frame: FrameType | None) -> NoReturn:
    # Whatever the process was doing, it does not go on: an import that is broken off may swallow an exception.
    with suppress(Exception):
        if sys.stdout.isatty():
            sys.stdout.write(SHOW_CURSOR)
        sys.stdout.flush()
    if not int(os.environ.get("RANK") or 0):
        with suppress(OSError):
            os.write(2, LINE.encode())
    os._exit(exit_code(number))
