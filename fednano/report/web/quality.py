"""The report's curves of model quality, against tokens and against what the run has cost."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fednano.core.event_log import DamagedLogError
from fednano.report import units
from fednano.report.history import History, Sample
from fednano.report.metrics import EVALUATION, ROUND, read_rows
from fednano.report.web import svg
from fednano.report.web.svg import Chart, Frame

HALF = Frame(width=540, height=250)
NOTHING = "Nothing was trained: runtime.compute=analytic runs the protocol alone."
ENERGY = ((1.0, "kWh"), (1e-3, "Wh"), (1e-6, "mWh"))
CARBON = ((1e3, "kg"), (1.0, "g"), (1e-3, "mg"))
BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))

Costs = Mapping[tuple[str, int], Mapping[str, Any]]
"""Rows of `metrics.jsonl` by their type and round."""


@dataclass(frozen=True)
class Panel:
    """A curve drawn against several axes: (name of the axis, chart)."""

    title: str
    unit: str
    charts: tuple[tuple[str, Chart | None], ...]
    empty: str


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """Something to draw a curve against.

    Args:
        name: in the style sheet.
        label: of the axis, without its unit.
        at: the place of a sample; NaN if it is not known.
        scales: (size, unit) from the largest; empty for tokens and times.
        time: whether places are seconds.
    """

    name: str
    label: str
    at: Callable[[Sample], float]
    scales: Sequence[tuple[float, str]] = ()
    time: bool = False


def read_costs(folder: Path) -> Costs:
    """The rows of `metrics.jsonl` in a run folder, as far as the file can be read; none without it."""
    try:
        return {(row["type"], row["round"]): row for row in read_rows(folder)}
    except (DamagedLogError, KeyError):  # the curves do without what they cost
        return {}


def panels(history: History, clock: str, costs: Costs | None = None, analytic: bool = False) -> list[Panel]:
    """Validation and training loss; `clock` is what the run's time is called."""
    empty = NOTHING if analytic else "Not measured."
    return [
        _panel("Validation", "bits per byte", history.evals, history, _axes(clock, costs or {}, EVALUATION), empty),
        _panel("Training loss", "nats per token", history.losses, history, _axes(clock, costs or {}, ROUND), empty),
    ]


def switches(drawn: Sequence[Panel], clock: str) -> list[tuple[str, str]]:
    """(name, label) of each axis that some panel has a chart against; tokens and the run's time always."""
    found = {name for panel in drawn for name, chart in panel.charts if chart} | {"tokens", "time"}
    labels = {
        "tokens": "tokens",
        "time": clock,
        "wall": "wall time",
        "energy": "energy",
        "carbon": "CO₂",
        "bytes": "bytes",
    }
    return [(name, label) for name, label in labels.items() if name in found]


def _axes(clock: str, costs: Costs, kind: str) -> list[_Axis]:
    def cost(*keys: str) -> Callable[[Sample], float]:
        def at(sample: Sample) -> float:
            row = costs.get((kind, sample.round), {})
            values = [row.get(key) for key in keys]
            return math.nan if None in values else float(sum(value for value in values if value is not None))

        return at

    return [
        _Axis(name="tokens", label="tokens merged", at=lambda sample: float(sample.tokens)),
        _Axis(name="time", label=clock, at=lambda sample: sample.t, time=True),
        _Axis(name="wall", label="wall-clock time", at=cost("wall_run_s"), time=True),
        _Axis(name="energy", label="energy of all clients", at=cost("energy_kwh"), scales=ENERGY),
        _Axis(name="carbon", label="CO₂ of all clients", at=cost("co2_g"), scales=CARBON),
        _Axis(name="bytes", label="sent by and to clients", at=cost("bytes_up", "bytes_down"), scales=BYTES),
    ]


def _panel(
    title: str, unit: str, samples: Sequence[Sample], history: History, axes: Sequence[_Axis], empty: str
) -> Panel:
    called = history.figures.unit
    return Panel(title, unit, tuple((axis.name, _chart(samples, axis, unit, called)) for axis in axes), empty)


def _chart(samples: Sequence[Sample], axis: _Axis, unit: str, called: str) -> Chart | None:
    places = [axis.at(sample) for sample in samples]
    known = [place for place in places if math.isfinite(place)]
    if not known:
        return None
    size, name = next(
        ((s, n) for s, n in axis.scales if max(known) >= s), axis.scales[-1] if axis.scales else (1.0, "")
    )
    points = [
        (place / size, sample.value, _hover(sample, unit, called))
        for place, sample in zip(places, samples, strict=True)
        if math.isfinite(place)
    ]
    return svg.curve(points, HALF, f"{axis.label}, {name}" if name else axis.label, time_axis=axis.time)


def _hover(sample: Sample, unit: str, called: str) -> str:
    where = f"{called} {sample.round}, {units.count(sample.tokens)} tokens, {units.duration(sample.t)}"
    return f"{units.fixed(sample.value, 4)} {unit}\n{where}"
