"""How long work says how far it is, without knowing who shows it."""

from typing import Protocol


class Progress(Protocol):
    """One task at a time: `start`, `advance`s, `finish`, all from the thread that called `ensure`."""

    def start(self, what: str, total: int | None, unit: str) -> None:
        """Begin `what`; `total` in `unit`, None where it cannot be known."""

    def advance(self, n: int) -> None:
        """`n` more units are done."""

    def finish(self) -> None:
        """The task ended, or was given up."""


class Silent:
    """Shows nothing."""

    def start(self, what: str, total: int | None, unit: str) -> None:
        pass

    def advance(self, n: int) -> None:
        pass

    def finish(self) -> None:
        pass
