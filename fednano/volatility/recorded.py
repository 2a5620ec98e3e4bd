"""The profile of clients whose windows were recorded in a file."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from fednano.config.paths import UserPath
from fednano.core.ranges import Range, Speedup
from fednano.traces.calendar import is_date
from fednano.traces.formats.spot import SpotRecord, read_spot
from fednano.traces.numbers import number
from fednano.traces.rows import PACKAGE_PREFIX, read_rows
from fednano.volatility.availability import Availability, Exit, Window
from fednano.volatility.periodic import check_speedup
from fednano.volatility.profiles import Leaving

SINCE_1970_S = 1e8  # a start as late as this is no time of a record, but a date

# (row, start, stop, exit); exit is None if the file gives none
Interval = tuple[int, float, float, Exit | None]


@dataclass(frozen=True, kw_only=True)
class Intervals(Leaving):
    """Recorded windows, from a CSV file with the columns client, start, stop and, optionally, exit, or from a trace of
    spot instances as SkyPilot, Bamboo and Parcae publish them.

    Start and stop are seconds of the run; a window with an empty stop never ends. If exit is empty or has no column,
    `exit` and `crash_share` decide.

    Args:
        file: the record's file; `package:NAME` is one that comes with fednano.
        match: name: a client has the windows under its name; turn: the file's clients are dealt to the run's in turn.
        on_end: down: a client stays down after its last window; repeat: the record starts again at 0 s, every
            `period_s` seconds.
        period_s: seconds; null: the last stop of the file, or the end of the trace.
        notice_s: how long before its end a drain is known, seconds of the run; 0: all windows end in crashes; null: it
            is known from the beginning of the window.
        speedup: seconds of the record that pass in one second of the run.
    """

    name: str = "intervals"
    file: UserPath
    match: Literal["name", "turn"] = "turn"
    on_end: Literal["down", "repeat"] = "down"
    period_s: float | None = None
    notice_s: Annotated[float, Range(ge=0, le=math.inf)] | None = None
    speedup: Speedup = 1.0
    recorded: dict[str, list[Interval]] = field(init=False, repr=False, compare=False)
    end_s: float | None = field(init=False, repr=False, compare=False, default=None)
    read: str = field(init=False, repr=False, compare=False, default="")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.match not in ("name", "turn"):
            raise ValueError(f"volatility.match must be name or turn, got {self.match}; choose one of them")
        if self.on_end not in ("down", "repeat"):
            raise ValueError(f"volatility.on_end must be down or repeat, got {self.on_end}; choose one of them")
        if self.notice_s is not None and not self.notice_s >= 0.0:
            raise ValueError(f"volatility.notice_s must be >= 0 seconds, got {self.notice_s}; 0 means no notice")
        check_speedup(self.speedup)
        spot = read_spot(self.file, self.match)
        if spot is None:
            recorded = self._rows()
            self._check_serial_days(recorded)
        else:
            recorded = self._machines(spot)
            object.__setattr__(self, "end_s", spot.end_s)
            object.__setattr__(self, "read", spot.described(self.file))
        object.__setattr__(self, "recorded", recorded)
        if self.on_end == "repeat":
            self._check_period()

    def _rows(self) -> dict[str, list[Interval]]:
        """The windows in a CSV file of windows."""
        recorded: dict[str, list[Interval]] = {}
        for line, cells in read_rows(self.file, ["client", "start", "stop"]):
            client, interval = cells["client"], self._interval(line, cells)
            self._check_order(recorded.setdefault(client, []), interval)
            recorded[client].append(interval)
        if not recorded:
            raise ValueError(f"{self.file} has no windows; add rows with client,start,stop")
        return recorded

    def _machines(self, spot: SpotRecord) -> dict[str, list[Interval]]:
        """The windows of spot instances. What is there at the end stays, or ends with the record if that repeats."""
        end_s = spot.end_s if self.on_end == "repeat" else math.inf
        found: dict[str, list[Interval]] = {
            name: [(line, start, min(stop, end_s), None) for line, start, stop in spans if start < end_s]
            for name, spans in spot.spans.items()
        }
        return {name: intervals for name, intervals in found.items() if intervals}

    @property
    def period(self) -> float:
        """Seconds of the record until it repeats."""
        if self.period_s is not None:
            return self.period_s
        return max(intervals[-1][2] for intervals in self.recorded.values()) if self.end_s is None else self.end_s

    @property
    def described(self) -> tuple[str, ...]:
        return (self.read,) if self.read and not self.file.startswith(PACKAGE_PREFIX) else ()

    @property
    def crash_probability(self) -> float:
        return 1.0 if self.notice_s == 0 else super().crash_probability

    @property
    def endless(self) -> bool:
        return self.on_end == "repeat"

    @property
    def cycle_s(self) -> float:
        most = max(len(intervals) for intervals in self.recorded.values())
        return self.period / most / self.speedup if self.on_end == "repeat" else math.inf

    def availability(self, client: str, index: int, seed: int) -> Availability:
        if self.match == "turn":
            names = list(self.recorded)
            return Availability(self._windows(names[index % len(names)], client, seed))
        if client not in self.recorded:
            raise ValueError(
                f"{self.file} has no windows for {client}, only for {', '.join(self.recorded)}; "
                "add rows, or set volatility.match=turn"
            )
        return Availability(self._windows(client, client, seed))

    def _windows(self, recorded: str, client: str, seed: int) -> Iterator[Window]:
        intervals = self._repeated(self.recorded[recorded])
        notice_s = math.inf if self.notice_s is None else self.notice_s
        for (_, start, stop, leaves), drawn in zip(intervals, self.exits(client, seed), strict=False):
            exit_ = "crash" if self.notice_s == 0 else leaves or drawn
            yield Window(start / self.speedup, stop / self.speedup, exit_, notice_s)

    def _repeated(self, intervals: list[Interval]) -> Iterator[Interval]:
        if self.on_end == "down":
            yield from intervals
            return
        line, first, last, leaves = intervals[0]
        if last - first >= self.period:
            yield line, first, math.inf, leaves
            return
        shift, before = 0.0, intervals[0]
        while True:
            for line, start, stop, leaves in intervals if shift else intervals[1:]:
                if start + shift <= before[2]:  # up at the end of the record and at its beginning
                    before = (before[0], before[1], stop + shift, leaves)
                    continue
                yield before
                before = (line, start + shift, stop + shift, leaves)
            shift += self.period

    def _interval(self, line: int, cells: dict[str, str]) -> Interval:
        start = self._seconds(line, "start", cells["start"])
        stop = self._seconds(line, "stop", cells["stop"]) if cells["stop"] else math.inf
        if not (0.0 <= start < stop):
            raise ValueError(
                f"{self.file}, row {line}: a window must start at 0 s or later and stop after its start, got {start:g} "
                f"to {stop:g} s; correct the row"
            )
        leaves = cells.get("exit", "")
        if leaves not in ("", "drain", "crash"):
            raise ValueError(
                f"{self.file}, row {line}: exit must be drain, crash or empty, got {leaves}; choose one of them"
            )
        return line, start, stop, leaves or None  # type: ignore[return-value]

    def _seconds(self, line: int, name: str, cell: str) -> float:
        if not is_date(cell) and (name == "stop" or not number(cell, self.file, line, name) >= SINCE_1970_S):
            return number(cell, self.file, line, name)
        raise ValueError(
            f"{self.file}, row {line}: {name} must be seconds since the record began, got {cell}; subtract "
            "its beginning"
        )

    def _check_serial_days(self, recorded: dict[str, list[Interval]]) -> None:
        """Days of a spreadsheet would be windows of less than a second, after hours without any."""
        windows = [interval for intervals in recorded.values() for interval in intervals]
        line, start, *_ = min(windows, key=lambda interval: interval[1])
        ends = [stop for _, _, stop, _ in windows if stop < math.inf]
        if start >= 10_000 and ends and max(ends) - start < len(windows):
            raise ValueError(
                f"{self.file}, row {line}: start must be seconds since the record began, got {start:g}, which seems to "
                "count days; write seconds"
            )

    def _check_period(self) -> None:
        for client, intervals in self.recorded.items():
            (_, begins, *_), (line, _, stops, _) = intervals[0], intervals[-1]
            # A machine of a trace may be up where the trace begins again.
            touches = self.end_s is not None and stops == begins + self.period
            if not (stops < begins + self.period or touches) or self.period == math.inf:
                raise ValueError(
                    f"volatility.period_s={self.period_s}: {client} begins again at {begins + self.period:g} s, but "
                    f"{self.file}, row {line} stops at {stops:g} s; use a longer period, and give every window a stop"
                )

    def _check_order(self, before: list[Interval], interval: Interval) -> None:
        if before and interval[1] <= before[-1][2]:
            raise ValueError(
                f"{self.file}, row {interval[0]}: starts at {interval[1]:g} s, but row {before[-1][0]} stops at "
                f"{before[-1][2]:g} s; sort each client's rows, and join windows that touch"
            )
