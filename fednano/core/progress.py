"""Progress reporting, independent of how progress is shown."""

from typing import Protocol

from fednano.core.clock import wall

SHORT_S = 2.0


class Progress(Protocol):
    """Progress of one task at a time: `start`, any number of `advance`, `finish`; all from one thread."""

    def start(self, what: str, total: int | None, unit: str) -> None:
        """Begin the task `what`; `total` is in `unit`, None if it cannot be known."""

    def advance(self, n: int) -> None:
        """`n` more units are done."""

    def finish(self) -> None:
        """The task ended or was given up."""

    def note(self, line: str) -> None:
        """Something that the user should see; between two tasks."""


class Silent:
    """Shows nothing."""

    def start(self, what: str, total: int | None, unit: str) -> None:
        pass

    def advance(self, n: int) -> None:
        pass

    def finish(self) -> None:
        pass

    def note(self, line: str) -> None:
        pass


class Lasting:
    """One task, which `shown` learns of only once it has lasted for `SHORT_S` seconds."""

    def __init__(self, shown: Progress, what: str, total: int | None, unit: str) -> None:
        self._shown = shown
        self._task = (what, total, unit)
        self._begun = wall()
        self._done = 0
        self._is_shown = False

    def advance(self, n: int) -> None:
        """`n` more units are done."""
        self._done += n
        if self._is_shown:
            self._shown.advance(n)
        elif wall() - self._begun >= SHORT_S:
            self._is_shown = True
            self._shown.start(*self._task)
            self._shown.advance(self._done)

    def finish(self) -> None:
        """The task ended or was given up."""
        if self._is_shown:
            self._shown.finish()
