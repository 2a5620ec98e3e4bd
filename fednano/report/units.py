"""Figures as text for people. None, NaN and infinity read "not measured"."""

import math
from collections.abc import Mapping
from typing import Any

NOT_MEASURED = "not measured"
DIVERGED = "diverged"
TIMES = 2.0  # a share from here on reads as a multiple

_ENDS = {
    "rounds": "all {unit}s done",
    "budget.tokens": "token budget reached",
    "budget.virtual_hours": "budget of virtual hours used up",
    "budget.wall_hours": "budget of wall-clock hours used up",
}
_COUNTS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def measured(value: float | None) -> bool:
    """Whether `value` is a finite number."""
    return value is not None and math.isfinite(value)


def _three(value: float) -> str:
    """Three significant digits without an exponent: 1.23, 12.3, 123."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value >= 1 else f"{value:.2f}"


def count(value: float | None) -> str:
    """1234 -> "1,234", 12345 -> "12.3k", 8_781_828 -> "8.78M"."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    for size, suffix in _COUNTS:
        # 999_950 would print as "1000k": round up to the next suffix instead.
        if abs(value) >= max(size * 0.9995, 10_000):
            return ("-" if value < 0 else "") + _three(max(1.0, abs(value) / size)) + suffix
    return f"{value:,.0f}"


def short(value: float) -> str:
    """A tick label: 0 -> "0", 500_000 -> "500k", 1_500_000 -> "1.5M"."""
    for scale, suffix in _COUNTS:
        if abs(value) >= scale:
            return f"{value / scale:g}{suffix}"
    return f"{value:g}"


def whole(value: float | None) -> str:
    """1234567 -> "1,234,567"."""
    return f"{value:,.0f}" if value is not None and math.isfinite(value) else NOT_MEASURED


def size(value: float | None) -> str:
    """Bytes: 12_345_678 -> "12.3 MB"."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    for unit, suffix in _SIZES:
        if value >= unit * 0.9995:
            return f"{_three(max(1.0, value / unit))} {suffix}"
    return f"{value:.0f} B"


def energy(value: float | None) -> str:
    """kWh: 0.0421 -> "42.1 Wh", 36.77 -> "36.8 kWh", 12345 -> "12.3 MWh"."""
    return _scaled(value, ((1e3, "MWh"), (1.0, "kWh"), (1e-3, "Wh")), 1e-3)


def mass(value: float | None) -> str:
    """Grams of CO₂: 0.0123 -> "12.3 mg", 1420 -> "1.42 kg", 2e6 -> "2.00 t"."""
    return _scaled(value, ((1e6, "t"), (1e3, "kg"), (1.0, "g"), (1e-3, "mg")), 1e-3)


def _scaled(value: float | None, scales: tuple[tuple[float, str], ...], least: float) -> str:
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    size, unit = next(((size, unit) for size, unit in scales if value >= size * 0.9995), (least, scales[-1][1]))
    return f"{_three(value / size)} {unit}"


def duration(value: float | None) -> str:
    """Seconds: 0.42 -> "0.42 s", 75 -> "1m 15s", 4000 -> "1h 07m", 200_000 -> "2d 08h"."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    if value < 9.95:
        return f"{value:.{1 if value >= 1 else 2}f} s" if value else "0 s"
    if value < 59.95:
        return f"{value:.1f} s"
    seconds = round(value)
    if seconds < 3600:
        return f"{seconds // 60}m {seconds % 60:02d}s"
    minutes = round(value / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60}h {minutes % 60:02d}m"
    hours = round(value / 3600)
    return f"{hours // 24}d {hours % 24:02d}h"


def moment(seconds: float) -> str:
    """Seconds since the run began, always to the second: 75 -> "1m 15s", 200_000 -> "2d 07h 33m 20s"."""
    if seconds < 3599.5:
        return duration(seconds)
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    return f"{days}d {h:02d}h {m:02d}m {s:02d}s" if days else f"{h}h {m:02d}m {s:02d}s"


def percent(value: float | None) -> str:
    """0.873 -> "87.3 %"."""
    return f"{100 * value:.1f} %" if value is not None and math.isfinite(value) else NOT_MEASURED


def share(ratio: float, whole: str) -> str:
    """(0.095, "14.5 kg") -> "9.5 % of 14.5 kg"; from twice as much up, (15.24, "95 mg") -> "15.2 times 95 mg"."""
    if ratio < TIMES:
        return f"{percent(ratio)} of {whole}"
    return f"{_three(ratio) if ratio < 1000 else f'{ratio:,.0f}'} times {whole}"


def fixed(value: float | None, digits: int = 3) -> str:
    """2.34567 -> "2.346"."""
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else NOT_MEASURED


def signed_percent(before: float, after: float) -> str:
    """The change relative to `before`: (4.0, 3.0) -> "−25.0 %"."""
    change = round(100 * (after / before - 1), 1)
    return f"{'−' if change < 0 else '+' if change > 0 else ''}{abs(change):.1f} %"


def ending(key: str | None, unit: str = "round") -> str:
    """Why a run ended, from the configuration key that ended it; a round is called `unit`."""
    return _ENDS.get(key or "", NOT_MEASURED).format(unit=unit)


def plural(n: int, noun: str) -> str:
    """(1, "update") -> "1 update"; (3, "update") -> "3 updates"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def privacy(summary: Mapping[str, Any]) -> str:
    """The privacy that a run has spent: "ε 4.38 at δ 1e-05, after 12 merges"."""
    spent = (summary.get("strategy_summary") or {}).get("privacy")
    if not spent:
        return NOT_MEASURED
    return f"ε {spent['epsilon']:.3g} at δ {spent['delta']:g}, after {plural(spent['merges'], 'merge')}"
