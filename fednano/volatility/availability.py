"""When one client is up: an endless, ordered sequence of windows, made as far as it is asked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Exit = Literal["drain", "crash"]


@dataclass(frozen=True)
class Window:
    """The client may compute from `start` up to `stop`, in seconds; `exit` says how it leaves.

    A drain is foreseen: the client hands in what it did before `stop`. A crash is not: what it holds at `stop` is lost.
    """

    start: float
    stop: float
    exit: Exit


class Availability:
    """Windows in order of time, without overlap, read lazily from `windows`.

    Raises:
        ValueError: a window that is empty or begins before the one before it ended.
    """

    def __init__(self, windows: Iterator[Window]) -> None:
        self._source = windows
        self._known: list[Window] = []

    def window(self, t: float) -> Window | None:
        """The window that holds `t`, or None while the client is down."""
        upcoming = self._first_ending_after(t)
        return upcoming if upcoming is not None and upcoming.start <= t else None

    def next_change(self, t: float) -> float:
        """The first time after `t` at which the client comes or goes; infinite if never."""
        upcoming = self._first_ending_after(t)
        if upcoming is None:
            return float("inf")
        return upcoming.start if upcoming.start > t else upcoming.stop

    def up_seconds(self, until: float) -> float:
        """Seconds up within [0, until)."""
        self._first_ending_after(until)
        return sum(max(0.0, min(w.stop, until) - w.start) for w in self._known if w.start < until)

    def _first_ending_after(self, t: float) -> Window | None:
        while not self._known or self._known[-1].stop <= t:
            window = next(self._source, None)
            if window is None:
                return None
            if window.stop <= window.start or (self._known and window.start < self._known[-1].stop):
                raise ValueError(f"window {window} is empty or begins before the one before it ended")
            self._known.append(window)
        low, high = 0, len(self._known) - 1
        while low < high:
            middle = (low + high) // 2
            if self._known[middle].stop > t:
                high = middle
            else:
                low = middle + 1
        return self._known[low]
