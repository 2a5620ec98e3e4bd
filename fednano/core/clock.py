"""Clocks. No other module waits, stamps or measures with `time`.

The protocol uses `Clock`, so that it runs unchanged on a virtual clock, where work and transfers are charged and a wait
jumps, and on a real clock, where they take real time.
"""

import asyncio
import heapq
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Protocol


class Clock(Protocol):
    """Seconds since the run began."""

    def now(self) -> float:
        """The current time, in seconds since the clock started."""

    def charge(self, seconds: float, times: int = 1) -> None:
        """Account for work of `seconds`, done `times` times. A real clock ignores it: it moved during the work."""

    def wait(self, until: float) -> None:
        """Return at `until`, or earlier when something may have arrived."""

    def alarm(self, at: float) -> None:
        """Make a `wait` that spans `at` return at that time."""


class RealClock:
    """Wall-clock seconds; `wait` polls.

    Args:
        poll_s: the longest time of a `wait`, in seconds.
        at: the clock's current time.
        since: instead of `at`, the zero of another clock on this machine, to show the same time.
    """

    def __init__(self, poll_s: float = 0.2, at: float = 0.0, since: float | None = None) -> None:
        self.since = time.monotonic() - at if since is None else since
        self._poll_s = poll_s

    def now(self) -> float:
        return time.monotonic() - self.since

    def charge(self, seconds: float, times: int = 1) -> None:
        pass

    def wait(self, until: float) -> None:
        time.sleep(max(0.0, min(until - self.now(), self._poll_s)))

    def alarm(self, at: float) -> None:
        pass


class VirtualClock:
    """Seconds that pass only when charged or waited for. Deterministic: independent of wall-clock time."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._alarms: list[float] = []
        self._settle: Callable[[], None] | None = None

    def before_wait(self, settle: Callable[[], None]) -> None:
        """Call `settle` before each wait; it finishes pending work and sets its alarms."""
        self._settle = settle

    def now(self) -> float:
        return self._now

    def charge(self, seconds: float, times: int = 1) -> None:
        if not seconds >= 0.0:
            raise ValueError(f"seconds charged must be >= 0, got {seconds}; time only goes forward")
        # Added one by one: a product would round differently from single charges.
        now = self._now
        for _ in range(times):
            now += seconds
        self._now = now

    def wait(self, until: float) -> None:
        if self._settle:
            self._settle()
        while self._alarms and self._alarms[0] <= self._now:
            heapq.heappop(self._alarms)
        target = min(until, self._alarms[0]) if self._alarms else until
        self._now = max(self._now, target)

    def alarm(self, at: float) -> None:
        heapq.heappush(self._alarms, at)


class Stopwatch:
    """Sum of the wall-clock seconds spent inside `with` blocks. For reports, never for decisions."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._entered = self._lap = 0.0

    def __enter__(self) -> "Stopwatch":
        self._entered = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self._lap = time.perf_counter() - self._entered
        self.seconds += self._lap

    def lap(self) -> float:
        """Seconds of the last `with` block."""
        return self._lap


class Throttle:
    """Limits what shows a run, in real time: `due` at most every `least_s` seconds, and for a small share of the time.

    Args:
        least_s: between two beginnings.
        rest: how many times as long as it took, after its end.
    """

    def __init__(self, least_s: float, rest: float = 20.0) -> None:
        self._least_s = least_s
        self._rest = rest
        self._begun = 0.0
        self._next: float | None = None

    def due(self) -> bool:
        return self._next is None or time.perf_counter() >= self._next

    def __enter__(self) -> None:
        self._begun = time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        now = time.perf_counter()
        self._next = max(self._begun + self._least_s, now + self._rest * (now - self._begun))


def wall() -> float:
    """A wall-clock reading in seconds, only meaningful as a difference."""
    return time.perf_counter()


def date() -> str:
    """The date and time of day in UTC, to the second, in ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def epoch() -> float:
    """Seconds since 1970, for files of others that want a date."""
    return time.time()


def age_s(path: Path) -> float:
    """Seconds since a file was last written, by the clocks of this machine and of its file system. Raises OSError."""
    return time.time() - path.stat().st_mtime


def pause(seconds: float, unless: Event | None = None) -> None:
    """Sleep in real time, outside a run's clock, such as before a retry. Ends early once `unless` is set."""
    if unless is None:
        time.sleep(seconds)
    else:
        unless.wait(seconds)


async def nap(seconds: float) -> None:
    """Sleep in a coroutine, such as one that emulates a slow link."""
    await asyncio.sleep(seconds)
