"""The availability of one client: an ordered, possibly endless sequence of windows, made on demand."""

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from fednano.core.packed import Packed

MOST_WINDOWS = 5_000_000  # of one client, which are kept; far more than a run has rounds

Exit = Literal["drain", "crash"]
EXITS = get_args(Exit)


@dataclass(frozen=True, slots=True)
class Window:
    """The client may compute from `start` up to `stop`, in seconds; `exit` says how it leaves.

    Before a drain, the client submits the steps it did by `stop`. In a crash, all that it holds at `stop` is lost.
    The client learns of a drain `notice_s` seconds before `stop`.
    """

    start: float
    stop: float
    exit: Exit
    notice_s: float = math.inf


def _window(start: float, stop: float, crash: int, notice_s: float) -> Window:
    return Window(start, stop, "crash" if crash else "drain", notice_s)


class Availability:
    """Windows in order of time, without overlap, read lazily from `windows`.

    Args:
        windows: source of the windows.
        ends: seconds after which nothing is known.
        beyond: error message for a time from `ends` on.

    Attributes:
        whose: whose windows they are, for messages.

    Raises:
        ValueError: a window is empty or begins before the previous one ended; a time is not before `ends`.
    """

    def __init__(self, windows: Iterator[Window], ends: float = math.inf, beyond: str = "") -> None:
        self.ends = ends
        self.beyond = beyond
        self.whose = "a client"
        self._source = windows
        self._known = Packed(_window, "ddBd")
        self._stops = self._known.columns[1]
        self._last = (-1, Window(0.0, 0.0, "drain"))  # the index and window that were asked for last

    def window(self, t: float) -> Window | None:
        """The window that contains `t`, or None while the client is down."""
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
        """The first time after `t` at which the client comes (comes back, if it is up at `t`); infinite if never."""
        upcoming = self.upcoming(t)
        if upcoming is not None and upcoming.start <= t:
            upcoming = self.upcoming(upcoming.stop)
        return math.inf if upcoming is None else min(self.ends, upcoming.start)

    def until(self, t: float) -> Iterator[Window]:
        """The windows that begin before `t`; the last one is cut at `t`."""
        for w in self.begun(t):
            yield Window(w.start, min(w.stop, t), w.exit, w.notice_s)

    def begun(self, t: float) -> Iterator[Window]:
        """The windows that begin before `t`, uncut."""
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
            if len(self._known) >= MOST_WINDOWS:
                raise ValueError(
                    f"volatility must let a client come and go at most {MOST_WINDOWS:,} times in a run, got more by "
                    f"{window.start:g} s; use longer times up and down, or a shorter run"
                )
            self._check(window)
            self._known.add(window.start, window.stop, window.exit == "crash", window.notice_s)
        k = bisect_right(self._stops, t)
        if k != self._last[0]:
            self._last = (k, self._known[k])
        return self._last[1]

    def _check(self, window: Window) -> None:
        before = self._stops[-1] if self._stops else -math.inf
        if window.start < 0 or window.exit not in EXITS:
            raise ValueError(
                f"volatility must give windows from 0 s on that end by drain or crash, got {window.start:g} to "
                f"{window.stop:g} s, {window.exit}, for {self.whose}; correct its windows"
            )
        if not before <= window.start < window.stop:  # nor is a NaN
            after = f" after one that ends at {before:g} s" if self._stops else ""
            raise ValueError(
                "volatility must give windows in order of time, none of them empty and none before the end of the one "
                f"before it, got {window.start:g} to {window.stop:g} s{after} for {self.whose}; correct its windows"
            )
