"""Stamps that are dates: ISO 8601, other orders of day, month and year, zones, and local time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Literal

from fednano.traces.clocks import Season, Unfolded, unfold
from fednano.traces.column import Reading, StampColumn
from fednano.traces.counts import DAY, ISO

Order = Literal["year", "day", "month", "name"]

# Hours east of UTC and the season of the clocks. Some abbreviations name other zones elsewhere; within one file only
# the hour between summer and winter matters.
_ZONES: dict[str, tuple[float, Season | None]] = {
    "Z": (0, None), "UTC": (0, None), "GMT": (0, "winter"), "BST": (1, "summer"),
    "WET": (0, "winter"), "WEST": (1, "summer"), "CET": (1, "winter"), "CEST": (2, "summer"),
    "MEZ": (1, "winter"), "MESZ": (2, "summer"), "EET": (2, "winter"), "EEST": (3, "summer"),
    "AST": (-4, "winter"), "ADT": (-3, "summer"), "EST": (-5, "winter"), "EDT": (-4, "summer"),
    "CST": (-6, "winter"), "CDT": (-5, "summer"), "MST": (-7, "winter"), "MDT": (-6, "summer"),
    "PST": (-8, "winter"), "PDT": (-7, "summer"), "AEST": (10, "winter"), "AEDT": (11, "summer"),
    "ACST": (9.5, "winter"), "ACDT": (10.5, "summer"), "NZST": (12, "winter"), "NZDT": (13, "summer"),
    "AWST": (8, None), "JST": (9, None), "KST": (9, None), "MSK": (3, None),
}  # fmt: skip
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK = (
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d{2})(?::(?P<second>\d{2}(?:[.,]\d{1,9})?))?)?\s*(?P<half>[AaPp]\.?[Mm]\.?)?"
    r"(?P<star>\*?)(?:\s*\(?(?P<zone>[A-Z]{1,4}|(?:UTC|GMT)?[+-]\d{2}(?::?\d{2})?)\)?)?"
)
_DATES: dict[Order, str] = {
    "year": r"(?P<y>\d{4})(?P<mark>[-/.])(?P<a>\d{1,2})(?:(?P=mark)(?P<b>\d{1,2}))?",
    "day": r"(?P<a>\d{1,2})(?P<mark>[-/.])(?P<b>\d{1,2})(?P=mark)(?P<y>\d{4})",
    "name": r"(?:[A-Z][a-z]{2,8},? )?(?:(?P<a>\d{1,2})[- ](?P<b>[A-Za-z]{3,9})[- ,]+|(?P<b2>[A-Za-z]{3,9}) "
    r"(?P<a2>\d{1,2}),? )(?P<y>\d{4})",
}
_FORMS = {order: re.compile(rf"{form}(?:(?:T|,?\s+){_CLOCK})?") for order, form in _DATES.items()}
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})[T ](\d{2})(\d{2})?(\d{2})?(Z|[+-]\d{2}:?\d{2})?")
_SHORT_YEAR = re.compile(r"\d{1,2}([-/.])\d{1,2}\1\d{2}(?!\d).*")


@dataclass(frozen=True, kw_only=True)
class _Stamp:
    """The fields of one stamp. `first` and `second` are month and day, in an order that only the column may tell."""

    order: Order
    mark: str
    year: int
    first: int
    second: int
    seconds: float  # since midnight
    offset: float | None  # seconds east of UTC
    season: Season | None
    hour_only: bool


def read(column: StampColumn) -> Reading:
    """The reading of a column of dates. Raises ValueError if there is none, or more than one."""
    plain = _plain(column.begins)
    stamps = [_parse(cell) for cell in column.begins] if plain is None else []
    kinds = {(stamp.order, stamp.mark) for stamp in stamps if stamp}
    for at, stamp in enumerate(stamps):
        if stamp is None:
            if _SHORT_YEAR.fullmatch(column.begins[at]):
                raise column.refusal(at, f"has a year of two digits; {ISO}")
            raise column.refusal(at, f"is not a time; {ISO}")
        if len(kinds) > 1 and (stamp.order, stamp.mark) != (stamps[0].order, stamps[0].mark):  # type: ignore[union-attr]
            raise column.refusal(
                at, f"is written in another way than the stamp in {column.noun} {column.lines[0]}; {ISO}"
            )
    known = [stamp for stamp in stamps if stamp]
    if plain is not None:
        local, aware = plain
        return Reading(seconds=local, first=local[0]) if aware else _in_zone(column, "", local, [None] * len(local))
    readings = [_in_order(column, known, order) for order in _orders(known)]
    return _likelier(column, known, readings)


def is_date(cell: str) -> bool:
    """Whether `cell` is a date in any order."""
    return _parse(cell) is not None


def _plain(cells: Sequence[str]) -> tuple[list[float], bool] | None:
    """(seconds since 1970, whether all have an offset) if all cells are ISO 8601 with or without an offset."""
    try:
        moments = [datetime.fromisoformat(cell) for cell in cells]
    except ValueError:
        return None
    aware = {moment.tzinfo is not None for moment in moments}
    if len(aware) > 1:
        return None
    return [(m if m.tzinfo else m.replace(tzinfo=UTC)).timestamp() for m in moments], aware.pop()


def _parse(cell: str) -> _Stamp | None:
    if match := _COMPACT.fullmatch(cell):
        year, month, day, hour, minute, second, zone = match.groups()
        cell = f"{year}-{month}-{day}T{hour}:{minute or '00'}:{second or '00'}{zone or ''}"
    for order, form in _FORMS.items():
        if match := form.fullmatch(cell):
            return _fields(order, match.groupdict())
    return None


def _fields(order: Order, found: dict[str, str | None]) -> _Stamp | None:
    clock = _since_midnight(found)
    zone = _zone(found["zone"]) if found["zone"] else (None, None)
    if clock is None or zone is None:
        return None
    first, second = found["a"] or found.get("a2"), found["b"] or found.get("b2") or "1"
    assert first is not None and found["y"] is not None
    if order == "name":
        names = [second.lower()[:3]]
        if names[0] not in _MONTHS:
            return None
        second = str(_MONTHS.index(names[0]) + 1)
    offset, season = zone
    return _Stamp(
        order=order,
        mark=found.get("mark") or "",
        year=int(found["y"]),
        first=int(first),
        second=int(second),
        seconds=clock,
        offset=offset,
        season="winter" if found["star"] else season,
        hour_only=found["hour"] is not None and found["minute"] is None and found["half"] is None,
    )


def _since_midnight(found: dict[str, str | None]) -> float | None:
    """Seconds; None if no clock shows that time."""
    hour, minute = int(found["hour"] or 0), int(found["minute"] or 0)
    second = float((found["second"] or "0").replace(",", "."))
    if half := found["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half[0] in "Pp" else 0)
    seconds = 3600 * hour + 60 * minute + second
    return seconds if minute < 60 and second < 60 and seconds <= DAY else None


def _zone(name: str) -> tuple[float | None, Season | None] | None:
    """(seconds east of UTC, season); None if the zone is not known."""
    if name in _ZONES:
        hours, season = _ZONES[name]
        return 3600 * hours, season
    match = re.fullmatch(r"(?:UTC|GMT)?([+-])(\d{2}):?(\d{2})?", name)
    return (int(match[1] + "1") * (3600 * int(match[2]) + 60 * int(match[3] or 0)), None) if match else None


def _orders(stamps: Sequence[_Stamp]) -> list[Order]:
    """The orders of day and month that may be meant. With points between them, the day comes first."""
    order, mark = stamps[0].order, stamps[0].mark
    return ["day", "month"] if order == "day" and mark != "." else [order]


def _in_order(column: StampColumn, stamps: Sequence[_Stamp], order: Order) -> Reading | int:
    """The reading of the column in one order; an index of a stamp that is no date in it."""
    # An hour that ends at 24 is named by its end.
    ending = 3600.0 if all(s.hour_only for s in stamps) and any(s.seconds == DAY for s in stamps) else 0.0
    local = []
    for at, stamp in enumerate(stamps):
        first, second = (stamp.second, stamp.first) if order in ("day", "name") else (stamp.first, stamp.second)
        try:
            midnight = datetime(stamp.year, first, second, tzinfo=UTC).timestamp()
        except ValueError:
            return at
        local.append(midnight + stamp.seconds - ending)
    return _zoned(column, stamps, order, local)


def _zoned(column: StampColumn, stamps: Sequence[_Stamp], order: Order, local: Sequence[float]) -> Reading:
    read_as = {"day": "day first", "month": "month first", "name": "", "year": ""}[order]
    without = next((at for at, stamp in enumerate(stamps) if stamp.offset is None), None)
    named = {stamp.offset for stamp in stamps if stamp.offset is not None}
    seasons = [stamp.season for stamp in stamps]
    if without is None and (len(named) > 1 or seasons[0] is None):
        seconds = [t - float(stamp.offset or 0) for t, stamp in zip(local, stamps, strict=True)]
        return Reading(seconds=seconds, first=seconds[0], read_as=read_as)
    if without is None:
        # One name the whole year: perhaps that of winter time on clocks that change.
        return _in_zone(column, read_as, local, [None] * len(stamps))
    if any(stamp.offset is not None and stamp.season is None for stamp in stamps):
        raise column.refusal(without, f"names no zone, but other stamps do; {ISO}")
    return _in_zone(column, read_as, local, seasons)


def _in_zone(column: StampColumn, read_as: str, local: Sequence[float], seasons: Sequence[Season | None]) -> Reading:
    """The reading of stamps in one zone, whose clocks may change; UTC if the column's name says so."""
    by_order = not re.search(r"\b(UTC|GMT|Zulu)\b", column.name, re.IGNORECASE)
    unfolded: Unfolded = unfold(local, seasons, by_order)
    changes = ", ".join(day.isoformat() for day in unfolded.changes)
    notes = [read_as, f"local time, whose clocks change on {changes}" if changes else ""]
    return Reading(
        seconds=unfolded.seconds,
        first=local[0],
        last=local[-1],
        read_as=", ".join(filter(None, notes)),
        at_clock_change=unfolded.unresolved,
    )


def _likelier(column: StampColumn, stamps: Sequence[_Stamp], readings: Sequence[Reading | int]) -> Reading:
    """The only plausible one of the `readings` in several orders; an int is a stamp that is no date in its order."""
    possible = [reading for reading in readings if isinstance(reading, Reading)]
    if not possible:
        at = readings[0]
        assert isinstance(at, int)
        raise column.refusal(at, f"is not a date; {ISO}")
    rising = [reading for reading in possible if all(b > a for a, b in pairwise(reading.seconds))]
    if len(rising) < 2:
        return (rising or possible)[0]
    dense = [reading for reading in rising if _density(reading.seconds) > 0.8]
    if len(dense) == 1 and min(_density(reading.seconds) for reading in rising) < 0.5:
        return dense[0]
    first, other = rising
    if _differences(first) == _differences(other):
        return first
    at = next(k for k, (a, b) in enumerate(zip(_differences(first), _differences(other), strict=True)) if a != b)
    raise column.refusal(at, f"may be {_day(stamps[at])} or {_day(stamps[at], swapped=True)}; {ISO}")


def _differences(reading: Reading) -> list[float]:
    return [t - reading.seconds[0] for t in reading.seconds]


def _density(seconds: Sequence[float]) -> float:
    """The share of the span that the stamps cover at their usual spacing."""
    return (len(seconds) - 1) * median(b - a for a, b in pairwise(seconds)) / (seconds[-1] - seconds[0])


def _day(stamp: _Stamp, swapped: bool = False) -> str:
    day, month = (stamp.second, stamp.first) if swapped else (stamp.first, stamp.second)
    return f"{date(stamp.year, month, day):%d %B %Y}"


def shown_moment(seconds: float) -> str:
    """`seconds` since 1970 as a date and time."""
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=round(seconds)):%Y-%m-%d %H:%M:%S}".removesuffix(
        ":00"
    )
