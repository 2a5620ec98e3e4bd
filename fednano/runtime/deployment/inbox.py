"""Events that one process has to tell and another one writes onto the event log, which has a single writer."""

from pathlib import Path

from fednano.core.event_log import from_line, to_line
from fednano.core.events import Event


class Inbox:
    """A file of events, each of which is taken once, by whatever process takes it.

    Args:
        path: the file; beside it, with the suffix `.taken`, stands how far it was read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = path.with_suffix(".taken")

    def put(self, event: Event) -> None:
        """Tell an event."""
        with self._path.open("ab") as file:
            file.write(to_line(event) + b"\n")

    def take(self) -> list[Event]:
        """The events that nobody has taken yet; none while there is no file."""
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
