"""Progress reporting, independent of how progress is shown."""

from typing import Protocol


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
