"""Stamps that are numbers: seconds, epochs in four units, serial days, and dates without separators."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median

from fednano.traces.column import Reading, StampColumn

DAY = 86400
ISO = "use ISO 8601 such as 2026-03-01T00:00Z, or seconds since the first row"
_UNITS = {
    "milliseconds": (0.001, r"milliseconds?|millis|msecs?"),
    "seconds": (1.0, r"seconds?|secs?"),
    "minutes": (60.0, r"minutes?|mins?"),
    "hours": (3600.0, r"hours?|hrs?"),
    "days": (86400.0, r"days?(?!-)"),
}
_SYMBOLS = {"ms": "milliseconds", "s": "seconds", "min": "minutes", "h": "hours", "d": "days"}
_EPOCHS = (("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
_COMPACT = {6: "yyyymm", 8: "yyyymmdd", 10: "yyyymmddHH", 12: "yyyymmddHHMM", 14: "yyyymmddHHMMSS"}
_DIRECTIVES = {"yyyy": "%Y", "mm": "%m", "dd": "%d", "HH": "%H", "MM": "%M", "SS": "%S"}
_SECONDS_END = 1e8  # smaller numbers are no seconds since 1970, but since a beginning of the file's own
_MILLISECONDS_END = 1e11
_YEARS = (datetime(2000, 1, 1, tzinfo=UTC).timestamp(), datetime(2100, 1, 1, tzinfo=UTC).timestamp())
_EXCEL = (20_000.0, 80_000.0)  # 1954 to 2119
_GRIDS = (DAY, 3600, 900, 300, 60, 1)  # seconds


def read(column: StampColumn) -> Reading:
    """The reading of a column whose cells are all numbers. Raises ValueError if none or two are plausible."""
    cells = [cell.replace(",", ".") for cell in column.begins]
    unit = unit_of(column.name)
    if unit not in ("seconds", "milliseconds") and (compact := _compact(cells)):
        return compact
    values = [float(cell) for cell in cells]
    infinite = next((at for at, value in enumerate(values) if abs(value) > 1e20), None)
    if infinite is not None:
        raise column.refusal(infinite, f"is not a time; {ISO}")
    if values[0] >= (_MILLISECONDS_END if unit == "milliseconds" else _SECONDS_END):
        return _epoch(column, cells, values)
    if unit is not None:
        scale = _UNITS[unit][0]
        return Reading(seconds=[value * scale for value in values], read_as="" if unit == "seconds" else unit)
    steps = [b - a for a, b in pairwise(values)]
    if values[0] >= 10_000 and steps and 0 < median(steps) < 1:
        return _serial_days(column, cells, values)
    _refuse_calendar_numbers(column, values, steps)
    return Reading(seconds=values)


def unit_of(name: str) -> str | None:
    """The unit of time that a column's name gives, such as "hours" for `t (h)`; None if it gives none."""
    if symbol := re.search(r"(?:^|[\s_(\[/])(ms|s|min|h|d)[)\]]?$", name):
        return _SYMBOLS[symbol[1]]
    words = re.sub(r"[_()\[\]]", " ", name.lower())
    return next((unit for unit, (_, form) in _UNITS.items() if re.search(rf"\b(?:{form})\b", words)), None)


def _compact(cells: Sequence[str]) -> Reading | None:
    """Dates without separators, if every cell is one."""
    form = _COMPACT.get(len(cells[0]))
    if form is None or not all(len(c) == len(cells[0]) and c.isdecimal() and c[:2] in ("19", "20") for c in cells):
        return None
    directives = form
    for letters, directive in _DIRECTIVES.items():
        directives = directives.replace(letters, directive)
    try:
        seconds = [datetime.strptime(cell, directives).replace(tzinfo=UTC).timestamp() for cell in cells]
    except ValueError:
        return None
    return Reading(seconds=seconds, first=seconds[0], read_as=f"dates {form}")


def _epoch(column: StampColumn, cells: Sequence[str], values: Sequence[float]) -> Reading:
    rounded = next((at for at, cell in enumerate(cells) if "e" in cell.lower()), None)
    if rounded is not None:
        raise column.refusal(rounded, "has lost its last digits; export it as text, in ISO 8601")
    if values[0] < 1e10:
        return Reading(seconds=values, first=values[0])
    for unit, per_second in _EPOCHS:
        if all(_YEARS[0] <= value / per_second < _YEARS[1] for value in (values[0], values[-1])):
            whole = all(cell.isdecimal() for cell in cells)
            # Floats hold no nanoseconds since 1970; their differences they hold.
            seconds = (
                [(int(cell) - int(cells[0])) / per_second for cell in cells]
                if whole
                else [(value - values[0]) / per_second for value in values]
            )
            return Reading(seconds=seconds, first=values[0] / per_second, read_as=f"{unit} since 1970")
    raise column.refusal(0, f"is not a time: no unit since 1970 puts it between 2000 and 2100; {ISO}")


def _serial_days(column: StampColumn, cells: Sequence[str], values: Sequence[float]) -> Reading:
    """Days with fractions, as spreadsheets count them, put back on the grid from which they were rounded."""
    digits = max(len(cell.partition(".")[2]) for cell in cells)
    last_digit = DAY * 10.0**-digits  # seconds
    exact = [value * DAY for value in values]
    for grid in _GRIDS:
        # A grid that every number would fit says nothing.
        if grid > 2 * last_digit and all(abs(t - grid * round(t / grid)) <= 0.51 * last_digit + 1e-3 for t in exact):
            exact = [float(grid * round(t / grid)) for t in exact]
            break
    else:
        if last_digit > 1:
            raise column.refusal(0, f"seems to count days with too few decimals; {ISO}")
    if not _EXCEL[0] <= values[0] < _EXCEL[1]:
        return Reading(seconds=exact, read_as="days")
    since_1970 = exact[0] - 25_569 * DAY  # 1970-01-01 is day 25569 of Excel's
    return Reading(seconds=exact, first=since_1970, read_as="Excel's serial days")


def _refuse_calendar_numbers(column: StampColumn, values: Sequence[float], steps: Sequence[float]) -> None:
    """Years and whole days are no seconds, but a trace may begin at such a second; nothing tells them apart."""
    if not all(value.is_integer() for value in values) or not steps:
        return
    days = set(steps) in ({1.0}, {7.0}) or (len(set(steps)) > 1 and set(steps) <= {28.0, 29.0, 30.0, 31.0})
    if days and all(_EXCEL[0] <= value < _EXCEL[1] for value in values):
        raise column.refusal(0, f"may be a day of Excel's or a second; {ISO}")
    if set(steps) == {1.0} and all(1900 <= value < 2100 for value in values):
        raise column.refusal(0, f"may be a year or a second; {ISO}")
