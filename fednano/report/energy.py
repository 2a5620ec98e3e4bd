"""The report's part on energy: each site's consumption, its baselines, and carbon intensity over time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fednano.report import units
from fednano.report.history import ClientLane, History, WorkBar
from fednano.report.web.svg import Bar, Frame, Scale, Tick, nice_step, time_label, time_ticks
from fednano.report.web.timeline import bars

WIDTH, PITCH, HEIGHT, WORK = 1100.0, 92.0, 70.0, 9.0  # pixels
NAMED = 5  # sites that the terminal lists
COLUMNS = (
    *("on", "training", "energy", "inside windows", "CO₂", "cost"),
    *("run vs. this site always on", "run vs. this site pausing"),
)

Curve = Sequence[tuple[float, float]]  # (t, g/kWh)


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One site's carbon intensity as a path, with the site's windows and training below."""

    client: str
    y: float
    height: float
    y_ticks: tuple[Tick, ...]
    path: str
    windows: tuple[Bar, ...]
    work: tuple[Bar, ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """Everything that the template needs; rows are (name, cells)."""

    rows: tuple[tuple[str, tuple[str, ...]], ...]
    total: tuple[str, tuple[str, ...]]
    oracle: str
    compared: str
    frame: Frame
    x_ticks: tuple[Tick, ...]
    strips: tuple[Strip, ...]


def section(history: History, summary: Mapping[str, Any], curves: Mapping[str, Curve]) -> Section | None:
    """The section, or None if energy was not counted."""
    energy = summary.get("energy")
    if not energy:
        return None
    alone = energy["baselines"]
    always_on, pausing = alone.get("always_on", {}), alone.get("pausing", {})
    rows = tuple(
        (client, (*_cells(found, energy["currency"]), _compared(always_on.get(client)), _compared(pausing.get(client))))
        for client, found in energy["clients"].items()
    )
    total = ("whole run", (*_cells(energy["total"], energy["currency"]), "", ""))
    strips, frame, x_ticks = _strips(history, curves)
    return Section(
        rows=rows,
        total=total,
        oracle=_oracle(alone.get("oracle")),
        compared=sites_compared(energy),
        frame=frame,
        x_ticks=x_ticks,
        strips=strips,
    )


def sites_compared(energy: Mapping[str, Any]) -> str:
    """Which sites have baselines, such as "first 32 of 1,000 sites"; empty if all have."""
    compared, sites = energy.get("sites_compared", 0), energy.get("sites", 0)  # summaries of older runs lack both
    return f"first {compared:,} of {sites:,} sites" if compared < sites else ""


def compared_with_always_on(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The run's CO2 as a share of what each site would have emitted alone and always on.

    (site, text) of the first NAMED sites that took part, such as ("client_1", "9.5 % of 14.5 kg"). Entries without a
    site count the others. Empty where carbon was not counted.
    """
    energy = summary.get("energy") or {}
    found = energy.get("baselines", {}).get("always_on") or {}
    took_part = [client for client, row in energy["clients"].items() if row["train_h"]] if found else []
    shares = [
        (client, units.share(found[client]["run_to_it"]["co2_g"], units.mass(found[client]["co2_g"])))
        for client in took_part
        if found.get(client) and found[client]["run_to_it"]["co2_g"] is not None
    ]
    if not shares:
        return []
    more = f"and {len(shares) - NAMED} more sites" if len(shares) > NAMED else ""
    some = sites_compared(energy)
    notes = (more, f"only the {some} are compared" if some else "")
    return shares[:NAMED] + [("", note) for note in notes if note]


def _cells(found: Mapping[str, Any], currency: str) -> tuple[str, ...]:
    return (
        units.duration(3600 * found["on_h"]),
        units.duration(3600 * found["train_h"]),
        units.energy(found["kwh"]),
        units.percent(found["share_in_windows"]) if found["share_in_windows"] is not None else "–",
        units.mass(found["co2_g"]) if found["co2_g"] is not None else "–",
        f"{found['cost']:,.3g} {currency}" if found["cost"] is not None else "–",
    )


def _compared(baseline: Mapping[str, Any] | None) -> str:
    """The run's CO2 as a share of a baseline's; of energy where carbon is unknown."""
    if baseline is None:
        return "–"
    kind = "kwh" if baseline["co2_g"] is None else "co2_g"
    shown = units.energy(baseline["kwh"]) if kind == "kwh" else units.mass(baseline["co2_g"])
    ratio = baseline["run_to_it"][kind]
    return "–" if ratio is None else units.share(ratio, shown)


def _oracle(baseline: Mapping[str, Any] | None) -> str:
    if baseline is None:
        return ""
    ratio = baseline["run_to_it"]["kwh" if baseline["co2_g"] is None else "co2_g"]
    shown = units.energy(baseline["kwh"]) if baseline["co2_g"] is None else units.mass(baseline["co2_g"])
    return f"{shown}; the run took {ratio:,.2f} times as much" if ratio is not None else shown


def _strips(history: History, curves: Mapping[str, Curve]) -> tuple[tuple[Strip, ...], Frame, tuple[Tick, ...]]:
    label = min(180.0, 60 + 7.2 * max((len(client) for client in curves), default=0))
    frame = Frame(width=WIDTH, height=8 + PITCH * len(curves) + 40, left=label, right=12, top=8)
    end = max((t for curve in curves.values() for t, _ in curve), default=0.0)
    x = Scale(0.0, end, frame.left, frame.x1)
    # The scale ends a tenth above the highest value; all strips share it, so that sites can be compared.
    high = 1.1 * max((value for curve in curves.values() for _, value in curve), default=0.0) or 1.0
    drawn = []
    for k, (client, curve) in enumerate(curves.items()):
        top = frame.top + k * PITCH
        y = Scale(0.0, high, top + HEIGHT, top)
        lane = history.lanes.get(client, ClientLane(client=client))
        work = sorted(lane.bars, key=lambda span: span.start)
        ups = [
            WorkBar(start=a, stop=b, kind="up", round=0, steps=0, note=f"{client} up {units.duration(b - a)}")
            for a, b in lane.windows
        ]
        step = nice_step(high, 2)
        drawn.append(
            Strip(
                client=client,
                y=top,
                height=HEIGHT,
                y_ticks=tuple(Tick(y(j * step), f"{j * step:g}") for j in range(int(high / step) + 1)),
                path=_steps(curve, x, y),
                windows=tuple(bars(ups, x, top, HEIGHT)),
                work=tuple(bars(work, x, top + HEIGHT - WORK, WORK)),
            )
        )
    return tuple(drawn), frame, tuple(Tick(x(v), time_label(v)) for v in time_ticks(0.0, end, 8))


def _steps(curve: Curve, x: Scale, y: Scale) -> str:
    """A step line that holds each value until the next; points without a step are left out."""
    path, last = "", None
    for t, value in curve:
        if value != last:
            path += f"H{x(t):g}V{y(value):g}" if path else f"M{x(t):g},{y(value):g}"
            last = value
    return f"{path}H{x(curve[-1][0]):g}" if path else ""
