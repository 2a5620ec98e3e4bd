"""The clients' electricity supply: carbon intensity and price over time (the `energy` group)."""

import math
from dataclasses import dataclass, field
from typing import Literal

from fednano.config.paths import UserPath
from fednano.core.ranges import Duration, Speedup
from fednano.energy.accounting import Signals
from fednano.traces.formats.published import CARBON
from fednano.traces.rows import PACKAGE_PREFIX
from fednano.traces.sources import read_sources
from fednano.traces.table import Table, fill
from fednano.traces.trace import Trace
from fednano.volatility.periodic import check_speedup
from fednano.volatility.profiles import Profile


@dataclass(frozen=True, kw_only=True)
class Column:
    """A signal from columns of a file.

    Args:
        file: CSV with a header and one row per stamp, or a file as publishers write it: see docs/volatility.md.
            `package:NAME` is one that comes with fednano. The columns of several files are dealt to the clients in
            turn; where a file gives one column, that is named after the file.
        format: whose file it is; table: nobody's in particular; null: as its content says.
        time_column: the column of the stamps, ISO 8601 (UTC unless they name a zone) or seconds; null: the publisher's,
            or the first column.
        columns: a list of columns, dealt to the clients in turn; null: the publisher's main ones, or all except the
            time column; or a column for each client by name.
        interpolation: step: a value holds until the next stamp; or linear.
        on_gap: error: refuse the file; hold: keep the value before the gap.
        on_end: after the last row: stop with an error, repeat from the first row, or hold the last value.
        scale: factor on all values of the file.
    """

    file: UserPath | list[UserPath]
    format: str | None = None
    time_column: str | None = None
    columns: list[str] | dict[str, str] | None = None
    interpolation: Literal["step", "linear"] = "step"
    on_gap: Literal["hold", "error"] = "error"
    on_end: Literal["error", "repeat", "hold"] = "error"
    scale: float = 1.0

    def read(self, where: str) -> tuple[dict[str, Trace], tuple[str, ...]]:
        """The traces by column, scaled, and a line about each of the user's own files.

        Raises ValueError, which names the configuration key `where`.
        """
        if self.columns in ([], {}):
            raise ValueError(
                f"{where}.columns must name at least one column, got {self.columns}; use [A, B], {{client_0: A}} or "
                "null"
            )
        if not math.isfinite(self.scale):
            raise ValueError(
                f"{where}.scale must be a finite number, got {self.scale}; 0.001 turns grams into kilograms"
            )
        sources = read_sources(self.file, self.time_column, self.columns, where, self.format)
        own = {table.file: table for table, _ in sources.values() if not table.file.startswith(PACKAGE_PREFIX)}
        traces = {}
        for name, (table, column) in sources.items():
            self._check_units(table, where)
            times, values, _ = fill(table, column, self.on_gap, where)
            end = float(table.times[-1] + (table.times[-1] - table.times[0]) / (len(table.times) - 1))
            traces[name] = Trace(times, self.scale * values, self.interpolation, end, self.on_end == "repeat")
        return traces, tuple(table.described() for table in own.values())

    def _check_units(self, table: Table, where: str) -> None:
        """A publisher's units are those of the signal, and its values are not converted twice."""
        carbon = where.endswith("carbon")
        for name, unit in table.units.items():
            if unit != CARBON if carbon else not unit.lower().endswith("/mwh"):
                kind = CARBON if carbon else "a price per MWh"
                raise ValueError(
                    f"{where}.columns must be in {kind}, got {name} of {table.file} in {unit}; name another column or "
                    f"file, or set {where}.format=table"
                )
        if table.factor != 1 and math.isclose(self.scale, table.factor, rel_tol=0.01):
            raise ValueError(
                f"{where}.scale must be 1 with {table.file}, whose values were turned into {CARBON} already, got "
                f"{self.scale:g}; leave it out, or set {where}.format=table"
            )

    def column(self, client: str, index: int, traces: dict[str, Trace], where: str) -> str:
        """The column of a client. Raises ValueError if it has none."""
        if not isinstance(self.columns, dict):
            return list(traces)[index % len(traces)]
        if client not in self.columns:
            raise ValueError(f"{where}.columns names no column for {client}; add {where}.columns.{client}=COLUMN")
        return self.columns[client]


Source = float | list[float] | Column | None


@dataclass(frozen=True, kw_only=True)
class Supply:
    """An `energy` choice.

    Args:
        name: name in summaries.
        carbon: carbon intensity in g/kWh: a constant, several constants dealt to the clients in turn, or columns of a
            file; null: carbon is not counted.
        price: price per kWh, in the same forms as carbon; null: cost is not counted.
        currency: currency of the price.
        offset_s: where in the files the run begins, seconds after their first rows; null: as in the volatility trace.
        speedup: seconds of the files that pass in one second of the run; null: as in the volatility trace.
        integration: exact: over the steps or lines of the signals; grid: sums over steps of `grid_s`.
        grid_s: step of the grid, seconds of the run.
        paused_watts: power of a site outside its windows in the baseline that pauses.

    `described` has a line for each of the user's own files: its span, and how stamps were read.
    """

    name: str
    carbon: Source = None
    price: Source = None
    currency: str = "EUR"
    offset_s: float | None = None
    speedup: Speedup | None = None
    integration: Literal["exact", "grid"] = "exact"
    grid_s: Duration = 60.0
    paused_watts: float = 0.0
    traces: dict[str, dict[str, Trace]] = field(init=False, repr=False, compare=False)
    described: tuple[str, ...] = field(init=False, repr=False, compare=False, default=())
    _on_run_clock: dict[tuple[str, str, float, float], Trace] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        if self.offset_s is not None and not 0.0 <= self.offset_s < math.inf:
            raise ValueError(f"energy.offset_s must be >= 0 seconds, got {self.offset_s}; null takes volatility's")
        if self.speedup is not None:
            check_speedup(self.speedup, "energy")
        if not 0.0 < self.grid_s < math.inf:
            raise ValueError(f"energy.grid_s must be > 0 seconds, got {self.grid_s}; 60 is usual")
        if not 0.0 <= self.paused_watts < math.inf:
            raise ValueError(f"energy.paused_watts must be >= 0 watts, got {self.paused_watts}; use 0 or more")
        object.__setattr__(self, "traces", {key: self._read(key) for key in ("carbon", "price")})

    @property
    def step(self) -> float | None:
        """Step of the grid in seconds; None if integrals are exact."""
        return self.grid_s if self.integration == "grid" else None

    def signals(self, client: str, index: int, profile: Profile) -> Signals:
        """Carbon intensity and price of a client on the clock of a run with this profile."""
        offset_s, speedup = self._clock(profile)

        def found(key: str) -> Trace | None:
            source, traces = getattr(self, key), self.traces[key]
            if not traces:
                return None
            if not isinstance(source, Column):
                return list(traces.values())[index % len(traces)]
            place = (key, source.column(client, index, traces, f"energy.{key}"), offset_s, speedup)
            if place not in self._on_run_clock:  # clients of one column share its trace
                self._on_run_clock[place] = traces[place[1]].on_run_clock(offset_s, speedup)
            return self._on_run_clock[place]

        return Signals(found("carbon"), found("price"))

    def ends(self, profile: Profile) -> float:
        """Seconds of the run after which a signal is unknown."""
        return min((end for end, _ in self._ends(profile)), default=math.inf)

    def require(self, t: float, profile: Profile) -> None:
        """Raise ValueError if a signal is unknown before `t`, in seconds of the run."""
        for end, key in self._ends(profile):
            if t > end:
                raise ValueError(
                    f"energy.{key}.file={getattr(self, key).file} ends {end:,.0f} s into the run, before the run does; "
                    f"set energy.{key}.on_end=repeat or hold, or use a longer trace"
                )

    def _ends(self, profile: Profile) -> list[tuple[float, str]]:
        offset_s, speedup = self._clock(profile)
        return [
            ((min(trace.end for trace in self.traces[key].values()) - offset_s) / speedup, key)
            for key in ("carbon", "price")
            if isinstance(source := getattr(self, key), Column) and source.on_end == "error"
        ]

    def _clock(self, profile: Profile) -> tuple[float, float]:
        """(offset, speed-up): the group's own if set, else those of the volatility trace, if there is one."""
        offset_s = getattr(profile, "offset_s", 0.0) if self.offset_s is None else self.offset_s
        speedup = getattr(profile, "speedup", 1.0) if self.speedup is None else self.speedup
        return offset_s, speedup

    def _read(self, key: str) -> dict[str, Trace]:
        source, where = getattr(self, key), f"energy.{key}"
        if source is None:
            return {}
        if isinstance(source, Column):
            traces, lines = source.read(where)
            object.__setattr__(self, "described", (*self.described, *lines))
            low = min(trace.values.min() for trace in traces.values())
        else:
            values = source if isinstance(source, list) else [source]
            if not values or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
                raise ValueError(
                    f"{where} must be a number or a list of numbers, got {source}; give them, null, or energy=trace"
                )
            traces = {str(k): Trace([0.0], [float(value)]) for k, value in enumerate(values)}
            low = min(values)
        if key == "carbon" and low < 0:
            raise ValueError(f"{where} must be >= 0 g/kWh, got {low:g}; use intensities of 0 or more")
        return traces
