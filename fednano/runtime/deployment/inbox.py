"""Inbox of events that one process passes to another, the single writer of the event log."""

from pathlib import Path

from fednano.core.event_log import from_line, to_line
from fednano.core.events import Event


class Inbox:
    """A file of events, each of which is taken once, by any process.

    Args:
        path: the file; a file beside it, with the suffix `.taken`, records how far it was read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = path.with_suffix(".taken")

    def put(self, event: Event) -> None:
        """Append an event."""
        with self._path.open("ab") as file:
            file.write(to_line(event) + b"\n")

    def take(self) -> list[Event]:
        """The events that no process has taken yet; none while the file does not exist."""
        if not self._path.exists():
            return []
        taken = int(self._mark.read_text(encoding="ascii")) if self._mark.exists() else 0
        with self._path.open("rb") as file:
            file.seek(taken)
            whole = file.read().rpartition(b"\n")[0]
        if not whole:
            return []
        self._mark.write_text(str(taken + len(whole) + 1), encoding="ascii")
        return [from_line(line) for line in whole.splitlines()]
