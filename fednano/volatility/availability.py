"""When one client is up: an endless, ordered sequence of windows, made as far as it is asked for."""

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Exit = Literal["drain", "crash"]


@dataclass(frozen=True, slots=True)
class Window:
    """The client may compute from `start` up to `stop`, in seconds; `exit` says how it leaves.

    A drain is foreseen: the client submits what it did before `stop`. A crash is not: what it holds at `stop` is lost.
    The end of a drain becomes known `notice_s` seconds before it.
    """

    start: float
    stop: float
    exit: Exit
    notice_s: float = math.inf


class Availability:
    """Windows in order of time, without overlap, read lazily from `windows`.

    Args:
        windows: as far as they are asked for.
        ends: seconds after which nothing is known.
        beyond: what is said to who asks later.

    Raises:
        ValueError: a window that is empty or begins before the one before it ended; a time from `ends` on.
    """

    def __init__(self, windows: Iterator[Window], ends: float = math.inf, beyond: str = "") -> None:
        self.ends = ends
        self.beyond = beyond
        self._source = windows
        self._known: list[Window] = []
        self._stops: list[float] = []

    def window(self, t: float) -> Window | None:
        """The window that holds `t`, or None while the client is down."""
        if t >= self.ends:
            raise ValueError(self.beyond)
        upcoming = self.upcoming(t)
        return upcoming if upcoming is not None and upcoming.start <= t else None

    def next_change(self, t: float) -> float:
        """The first time after `t` at which the client comes or goes; infinite if never."""
        upcoming = self.upcoming(t)
        if upcoming is None:
            return self.ends
        return min(self.ends, upcoming.start if upcoming.start > t else upcoming.stop)

    def next_start(self, t: float) -> float:
        """The first time after `t` at which the client comes, back if it is there; infinite if never."""
        upcoming = self.upcoming(t)
        if upcoming is not None and upcoming.start <= t:
            upcoming = self.upcoming(upcoming.stop)
        return math.inf if upcoming is None else min(self.ends, upcoming.start)

    def until(self, t: float) -> Iterator[Window]:
        """The windows that begin before `t`, the last one cut there."""
        for w in self.begun(t):
            yield Window(w.start, min(w.stop, t), w.exit, w.notice_s)

    def begun(self, t: float) -> Iterator[Window]:
        """The windows that begin before `t`, whole."""
        self.upcoming(t)
        for w in self._known:
            if w.start >= t:
                return
            yield w

    def up_seconds(self, until: float) -> float:
        """Seconds up within [0, until)."""
        return sum(w.stop - w.start for w in self.until(until))

    def upcoming(self, t: float) -> Window | None:
        """The first window that ends after `t`."""
        while not self._stops or self._stops[-1] <= t:
            window = next(self._source, None)
            if window is None:
                return None
            if window.stop <= window.start or (self._known and window.start < self._known[-1].stop):
                raise ValueError(f"window {window} is empty or begins before the one before it ended")
            self._known.append(window)
            self._stops.append(window.stop)
        return self._known[bisect_right(self._stops, t)]
