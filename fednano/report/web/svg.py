"""The geometry of charts: scales, ticks and paths. Pure arithmetic; the template draws."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fednano.report import units

MAX_POINTS = 400  # per curve, after thinning
MAX_DOTS = 40  # curves with more points show no dots, only hover targets
MAX_BARS = 120

_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
_DAY = 86400


@dataclass(frozen=True)
class Scale:
    """A linear map from [low, high] in data units to [start, stop] in pixels."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low or 1.0
        return round(self.start + (value - self.low) / span * (self.stop - self.start), 1)


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    label: str
    kind: str = ""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The plot area inside the drawing, in pixels."""

    width: float
    height: float
    left: float = 54
    right: float = 14
    top: float = 12
    bottom: float = 40

    @property
    def x1(self) -> float:
        return self.width - self.right

    @property
    def y1(self) -> float:
        return self.height - self.bottom


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart, ready to draw: either a curve (`path`, `dots`) or bars."""

    frame: Frame
    x_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    path: str = ""
    area: str = ""
    dots: tuple[Dot, ...] = ()
    show_dots: bool = False
    bars: tuple[Bar, ...] = ()
    left_out: int = 0  # points without a finite value


def nice_step(span: float, count: int) -> float:
    """The step among 1, 2 and 5 × 10^k that divides `span` into at most about `count` pieces."""
    raw = span / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= raw * 0.999)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from at or above `low` to at or below `high`."""
    if not high > low:
        return [low]
    step = nice_step(high - low, count)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def time_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Ticks at whole seconds, minutes, hours or days."""
    span = high - low
    if span <= 0:
        return [low]
    if span < count:
        return ticks(low, high, count)
    raw = span / count
    step = next((s for s in _TIME_STEPS if s >= raw), _DAY * math.ceil(raw / _DAY))
    return [float(k * step) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def tick_labels(values: Sequence[float]) -> list[str]:
    """Numbers with only the decimals that their step needs; short counts (10k) from 10,000 on."""
    if len(values) < 2:
        return [f"{v:g}" for v in values]
    if max(abs(v) for v in values) >= 10_000:
        return [units.short(v) for v in values]
    digits = max(0, -math.floor(math.log10(values[1] - values[0]) + 1e-9))
    return [f"{v:,.{digits}f}" for v in values]


def time_label(seconds: float) -> str:
    """0, 45s, 12m, 1h 30m, 2d 6h: whole units only, since ticks fall on them."""
    if seconds < 60:
        return f"{seconds:g}s" if seconds else "0"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    parts = [(days, "d"), (h, "h"), (m, "m"), (s, "s")]
    return " ".join(f"{n}{unit}" for n, unit in parts if n)


def thin(points: Sequence[tuple[float, float, str]], limit: int = MAX_POINTS) -> list[tuple[float, float, str]]:
    """At most about `limit` points: both ends, and the lowest and highest of each bucket in between."""
    if len(points) <= limit:
        return list(points)
    inner = points[1:-1]
    size = math.ceil(len(inner) / (limit // 2 - 1))
    kept = [points[0]]
    for i in range(0, len(inner), size):
        bucket = range(i, min(i + size, len(inner)))
        low = min(bucket, key=lambda k: inner[k][1])
        high = max(bucket, key=lambda k: inner[k][1])
        kept.extend(inner[k] for k in sorted({low, high}))
    return [*kept, points[-1]]


def curve(points: Sequence[tuple[float, float, str]], frame: Frame, x_label: str, time_axis: bool) -> Chart | None:
    """A line chart of (x, y, hover text), x ascending; None when there is no finite point."""
    finite = [p for p in points if math.isfinite(p[0]) and math.isfinite(p[1])]
    if not finite:
        return None
    shown = thin(finite)
    x_high = max(p[0] for p in shown)
    low, high = min(p[1] for p in shown), max(p[1] for p in shown)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - margin, high + margin
    x = Scale(0.0, x_high, frame.left, frame.x1)
    y = Scale(low, high, frame.y1, frame.top)
    dots = tuple(Dot(x(a), y(b), label) for a, b, label in shown)
    path = "M" + "L".join(f"{d.x:g},{d.y:g}" for d in dots)
    return Chart(
        frame=frame,
        x_label=x_label,
        x_ticks=_x_ticks(x, time_axis),
        y_ticks=_y_ticks(y),
        path=path,
        area=f"{path}L{dots[-1].x:g},{frame.y1:g}L{dots[0].x:g},{frame.y1:g}Z",
        dots=dots,
        show_dots=len(dots) <= MAX_DOTS,
        left_out=len(points) - len(finite),
    )


def bars(
    values: Sequence[tuple[int, float, str]],
    frame: Frame,
    x_label: str,
    hover: Callable[[int, int, float], str],
    mark: str = "",
) -> Chart | None:
    """Bars of (index, height, kind) in order; more than MAX_BARS are averaged in buckets.

    `hover(first, last, mean)` gives their labels. A bucket has the kind `mark` if any of its values has.
    """
    if not values:
        return None
    size = math.ceil(len(values) / MAX_BARS)
    buckets = [values[i : i + size] for i in range(0, len(values), size)]
    means = [sum(v[1] for v in bucket) / len(bucket) for bucket in buckets]
    y = Scale(0.0, 1.05 * max(means) or 1.0, frame.y1, frame.top)
    slot = (frame.x1 - frame.left) / len(buckets)
    width = min(48.0, max(slot - 3.0, slot * 0.8))
    drawn = []
    for k, (bucket, mean) in enumerate(zip(buckets, means, strict=True)):
        kind = mark if any(v[2] == mark for v in bucket) else bucket[0][2]
        top = y(mean)
        label = hover(bucket[0][0], bucket[-1][0], mean)
        left = round(frame.left + (k + 0.5) * slot - width / 2, 1)
        drawn.append(Bar(x=left, y=top, width=round(width, 2), height=round(frame.y1 - top, 1), label=label, kind=kind))
    every = max(1, math.ceil(len(buckets) / 8))
    x_ticks = tuple(
        Tick(round(frame.left + (k + 0.5) * slot, 1), f"{buckets[k][0][0]:,}") for k in range(0, len(buckets), every)
    )
    return Chart(frame=frame, x_label=x_label, x_ticks=x_ticks, y_ticks=_y_ticks(y, 4), bars=tuple(drawn))


def _x_ticks(x: Scale, time_axis: bool) -> tuple[Tick, ...]:
    values = time_ticks(x.low, x.high) if time_axis else ticks(x.low, x.high, 6)
    labels = [time_label(v) for v in values] if time_axis else tick_labels(values)
    return tuple(Tick(x(v), label) for v, label in zip(values, labels, strict=True))


def _y_ticks(y: Scale, count: int = 5) -> tuple[Tick, ...]:
    values = ticks(y.low, y.high, count)
    return tuple(Tick(y(v), label) for v, label in zip(values, tick_labels(values), strict=True))
