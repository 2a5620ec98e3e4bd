"""The profile of clients that are up while a recorded signal is below or above a threshold."""

import copy
import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fednano.config.paths import UserPath
from fednano.core.ranges import Speedup
from fednano.traces.formats.published import INSTANCES
from fednano.traces.rows import PACKAGE_PREFIX
from fednano.traces.sources import read_sources
from fednano.traces.table import Table, fill
from fednano.traces.trace import Trace
from fednano.volatility.availability import Availability
from fednano.volatility.periodic import check_speedup
from fednano.volatility.profiles import Leaving

SignalSpan = tuple[float, float]


@dataclass(frozen=True)
class FilledSignal:
    """One column: its file and filled trace, the threshold in its unit, and when the condition holds, in seconds of the
    file.
    """

    file: str
    trace: Trace
    level: float
    met: tuple[SignalSpan, ...]


@dataclass(frozen=True, kw_only=True)
class Traced(Leaving):
    """A window is open while a column of a file is below or above a threshold.

    Args:
        file: CSV with a header and one row per stamp, or a file as publishers write it: see docs/volatility.md.
            `package:NAME` is one that comes with fednano. The columns of several files are dealt to the clients in
            turn; where a file gives one column, that is named after the file.
        format: whose file it is; table: nobody's in particular; null: as its content says.
        time_column: the column of the stamps, ISO 8601 (UTC unless they name a zone) or seconds; null: the publisher's,
            or the first column.
        columns: a list of columns, dealt to the clients in turn; null: the publisher's main ones, or all except the
            time column; or a column for each client by name.
        open_when: the side of the threshold, below or above, on which a client is up.
        threshold: a value in the column's unit, or a percentile of each column, such as p40.
        interpolation: step: a value holds until the next stamp; or linear.
        hysteresis_s: how long the condition must fail before the client leaves, seconds of the file.
        provisioning_s: how long the condition must hold before the client joins, seconds of the file.
        on_gap: during a gap of the column: hold the value before it, be down, or refuse the file (error).
        on_end: after the last row: repeat from the first row, or one of the choices of on_gap; null: the same as
            on_gap.
        offset_s: where in the file the run begins, seconds after its first row.
        speedup: seconds of the file that pass in one second of the run.

    `planned` is set by `foreseen`: a client leaves as soon as the condition fails, without `hysteresis_s`, unless the
    condition holds again within `provisioning_s`. In that case coming back would take longer than the absence.
    """

    name: str = "trace"
    file: UserPath | list[UserPath]
    format: str | None = None
    time_column: str | None = None
    columns: list[str] | dict[str, str] | None = None
    open_when: Literal["below", "above"] = "below"
    threshold: float | str = "p40"
    interpolation: Literal["step", "linear"] = "step"
    hysteresis_s: float = 0.0
    provisioning_s: float = 0.0
    on_gap: Literal["hold", "down", "error"] = "error"
    on_end: Literal["repeat", "hold", "down", "error"] | None = None
    offset_s: float = 0.0
    speedup: Speedup = 1.0
    planned: bool = field(init=False, default=False)
    signals: dict[str, FilledSignal] = field(init=False, repr=False, compare=False)
    read: tuple[str, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choices()
        for key in ("hysteresis_s", "provisioning_s", "offset_s"):
            if not 0.0 <= getattr(self, key) < math.inf:
                raise ValueError(f"volatility.{key} must be >= 0 seconds, got {getattr(self, key)}; 0 means at once")
        check_speedup(self.speedup)
        sources = read_sources(self.file, self.time_column, self.columns, "volatility", self.format)
        own = {table.file: table for table, _ in sources.values() if not table.file.startswith(PACKAGE_PREFIX)}
        object.__setattr__(self, "read", tuple(table.described() for table in own.values()))
        object.__setattr__(self, "signals", {name: self._signal(*source) for name, source in sources.items()})

    @property
    def ending(self) -> Literal["repeat", "hold", "down", "error"]:
        """What happens after the last row."""
        return self.on_end or self.on_gap

    @property
    def described(self) -> tuple[str, ...]:
        return self.read

    @property
    def endless(self) -> bool:
        return self.ending == "repeat"

    @property
    def cycle_s(self) -> float:
        signals = self.signals.values()
        least = min(signal.trace.end / max(1, len(signal.met)) for signal in signals)
        return least / self.speedup if self.endless else math.inf

    def availability(self, client: str, index: int, seed: int) -> Availability:
        signal = self.signals[self.column(client, index)]
        windows = self.windows(self._spans(signal), client, seed)
        if self.ending != "error":
            return Availability(windows)
        length = signal.trace.end - self.offset_s
        return Availability(
            windows,
            length / self.speedup,
            f"{signal.file} ends {length:,.0f} s after volatility.offset_s={self.offset_s:g}, before the run does; "
            "set volatility.on_end=repeat, hold or down, or use a longer trace",
        )

    def foreseen(self, crashes: bool) -> "Traced":
        if self.crash_probability and not crashes:
            return self
        profile = copy.copy(self)
        object.__setattr__(profile, "planned", True)
        for name, signal in self.signals.items():
            if not profile._opens(signal):
                raise ValueError(
                    f"planner.deprovision=foreseen never opens column {name} of {signal.file} for longer than "
                    f"volatility.provisioning_s={self.provisioning_s:g}; use planner.deprovision=delayed"
                )
        return profile

    def column(self, client: str, index: int) -> str:
        """The column of a client. Raises ValueError if it has none."""
        if not isinstance(self.columns, dict):
            names = list(self.signals)
            return names[index % len(names)]
        if client not in self.columns:
            raise ValueError(f"volatility.columns names no column for {client}; add volatility.columns.{client}=COLUMN")
        return self.columns[client]

    def trace(self, client: str, index: int) -> Trace:
        """The signal of a client on the clock of the run."""
        return self.signals[self.column(client, index)].trace.on_run_clock(self.offset_s, self.speedup)

    def open_spans(self, client: str, index: int, until: float, since: float = 0.0) -> list[SignalSpan]:
        """When the condition holds within [since, until), in run seconds, without hysteresis and provisioning."""
        signal = self.signals[self.column(client, index)]
        end, met = signal.trace.end, list(signal.met)
        if self.ending == "hold" and met and met[-1][1] == end:
            met[-1] = (met[-1][0], math.inf)
        first, last = (self.offset_s + t * self.speedup for t in (since, until))
        periods = range(math.floor(first / end), math.ceil(last / end)) if self.ending == "repeat" else range(1)
        spans = [(a + k * end, b + k * end) for k in periods for a, b in met if b + k * end > first]
        return [
            ((max(a, first) - self.offset_s) / self.speedup, (min(b, last) - self.offset_s) / self.speedup)
            for a, b in spans
            if a < last
        ]

    def _check_choices(self) -> None:
        if not isinstance(self.columns, list | dict | None) or self.columns in ([], {}):
            raise ValueError(
                f"volatility.columns must name at least one column, got {self.columns}; use [A, B], {{client_0: A}} or "
                "null"
            )
        choices = {
            "open_when": ("below", "above"),
            "interpolation": ("step", "linear"),
            "on_gap": ("hold", "down", "error"),
            "on_end": ("repeat", "hold", "down", "error", None),
        }
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                known = ", ".join("null" if choice is None else choice for choice in allowed)
                raise ValueError(
                    f"volatility.{key} must be one of {known}, got {getattr(self, key)}; choose one of them"
                )
        if isinstance(self.threshold, str):
            found = re.fullmatch(r"p(\d+(\.\d+)?)", self.threshold)
            if not found or float(found[1]) > 100:
                raise ValueError(
                    f"volatility.threshold must be from p0 to p100, got {self.threshold}; or give a number"
                )
        elif not math.isfinite(self.threshold):
            raise ValueError(
                f"volatility.threshold must be finite, got {self.threshold}; use a number or a percentile such as p40"
            )

    def _check_threshold(self, table: Table) -> None:
        """A percentile of how many instances there are says nothing about when there is one."""
        if INSTANCES in table.units.values() and isinstance(self.threshold, str):
            raise ValueError(
                f"volatility.threshold must be a number with {table.file}, which counts instances, got "
                f"{self.threshold}; set volatility.open_when=above volatility.threshold=0, or use volatility=spot_trace"
            )

    def _signal(self, table: Table, name: str) -> FilledSignal:
        self._check_threshold(table)
        times, values, gaps = fill(table, name, self.on_gap)
        trace = Trace(times, values, self.interpolation, self._end(table), self.ending == "repeat")
        if self.offset_s >= trace.end:
            raise ValueError(
                f"volatility.offset_s must be < {trace.end:g}, the end of {table.file} in seconds, got "
                f"{self.offset_s:g}; use less"
            )
        known = table.columns[name][np.isfinite(table.columns[name])]
        if isinstance(self.threshold, str):
            level = float(np.percentile(known, float(self.threshold[1:])))
        else:
            level = self.threshold
        met = condition(trace, level, self.open_when)
        if self.on_gap == "down":
            met = without(met, gaps)
        signal = FilledSignal(table.file, trace, level, tuple(met))
        if not self._opens(signal):
            raise ValueError(
                f"volatility.threshold={self.threshold} never opens column {name} of {table.file} long enough; its "
                f"values lie between {known.min():g} and {known.max():g}; use a threshold between them, "
                "or change open_when or provisioning_s"
            )
        return signal

    @staticmethod
    def _end(table: Table) -> float:
        return float(table.times[-1] + np.median(np.diff(table.times)))

    def _spans(self, signal: FilledSignal) -> Iterator[SignalSpan]:
        """(start, stop) of windows in seconds of the run, without those that end before the run begins."""
        for start, stop in self._delayed(self._met(signal)):
            if stop > self.offset_s:
                yield (start - self.offset_s) / self.speedup, (stop - self.offset_s) / self.speedup

    def _opens(self, signal: FilledSignal) -> bool:
        """Whether a window ever opens."""
        # A few periods stand for all. With provisioning it is possible that no window ever opens.
        some = itertools.islice(self._met(signal), 4 * len(signal.met))
        return any(stop > self.offset_s for _, stop in self._delayed(some))

    def _delayed(self, met: Iterator[SignalSpan]) -> Iterator[SignalSpan]:
        return delayed(met, 0.0 if self.planned else self.hysteresis_s, self.provisioning_s, self._bridged_s)

    @property
    def _bridged_s(self) -> float:
        """The longest failure of the condition through which a client stays, seconds of the file."""
        return self.provisioning_s if self.planned else self.hysteresis_s

    def _met(self, signal: FilledSignal) -> Iterator[SignalSpan]:
        """When the condition holds, in seconds of the file, continued after the file's end according to `ending`."""
        end, met = signal.trace.end, signal.met
        if not met:
            return
        if self.ending == "hold" and met[-1][1] == end:
            yield from (*met[:-1], (met[-1][0], math.inf))
        elif self.ending != "repeat":
            yield from met
        elif all(b[0] <= a[1] + self._bridged_s for a, b in itertools.pairwise((*met, (met[0][0] + end, end)))):
            yield -math.inf, math.inf  # the client never leaves, so delayed() would never complete a window
        else:
            # A window that contains offset_s may have begun in the period before.
            for period in itertools.count(math.floor(self.offset_s / end) - 2):
                yield from ((start + period * end, stop + period * end) for start, stop in met)


def condition(trace: Trace, level: float, side: Literal["below", "above"]) -> list[SignalSpan]:
    """The spans within [start, end] in which the trace is strictly below or above `level`, in order."""
    if side == "below":
        # trace < level is -trace > -level; inverting the condition instead would include trace = level.
        trace, level = Trace(trace.times, -trace.values, trace.interpolation, trace.end), -level
    changes = trace.crossings(level).tolist()
    if trace.value(trace.start) > level:
        changes.insert(0, trace.start)
    if len(changes) % 2:
        changes.append(trace.end)
    return list(zip(changes[::2], changes[1::2], strict=True))


def without(spans: list[SignalSpan], holes: list[SignalSpan]) -> list[SignalSpan]:
    """`spans` without `holes`; both are in order and disjoint."""
    kept = []
    for start, stop in spans:
        for hole_start, hole_stop in holes:
            if hole_stop <= start or hole_start >= stop:
                continue
            if hole_start > start:
                kept.append((start, hole_start))
            start = hole_stop  # noqa: PLW2901
        if start < stop:
            kept.append((start, stop))
    return kept


def delayed(
    met: Iterator[SignalSpan], hysteresis_s: float, provisioning_s: float, bridged_s: float | None = None
) -> Iterator[SignalSpan]:
    """Windows of a client that leaves `hysteresis_s` after the condition fails, and joins `provisioning_s` after the
    condition holds. It stays if the condition holds again within `bridged_s`; None: `hysteresis_s`.

    A span that begins at −∞ needs no provisioning: the client is up from the start.
    """
    first = next(met, None)
    if first is None:
        return
    stays_s = hysteresis_s if bridged_s is None else bridged_s
    joins, fails = first[0] + provisioning_s, first[1]
    for start, stop in met:
        if start > fails + stays_s:
            if joins < fails + hysteresis_s:
                yield joins, fails + hysteresis_s
            joins = start + provisioning_s
        fails = stop
    if joins < fails + hysteresis_s:
        yield joins, fails + hysteresis_s
