"""Progress of tasks that may be too short to show."""

import pytest

from fednano.core import progress
from fednano.core.progress import SHORT_S, Lasting


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def start(self, what: str, total: int | None, unit: str) -> None:
        self.calls.append((what, total, unit))

    def advance(self, n: int) -> None:
        self.calls.append(n)

    def finish(self) -> None:
        self.calls.append("end")

    def note(self, line: str) -> None:
        self.calls.append(line)


def test_only_a_task_that_lasts_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress, "wall", lambda: now[0])
    told = Told()
    brief = Lasting(told, "counting", 9, "rounds")
    brief.advance(9)
    brief.finish()
    assert told.calls == []
    long = Lasting(told, "counting", 9, "rounds")
    for k in range(1, 5):
        now[0] = 0.9 * k
        long.advance(k)
    long.finish()
    assert SHORT_S == 2.0
    assert told.calls == [("counting", 9, "rounds"), 1 + 2 + 3, 4, "end"]
