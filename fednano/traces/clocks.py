"""Changes of the clocks in stamps of local time, found by marks or by order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise
from statistics import median
from typing import Literal

Season = Literal["summer", "winter"]
HOUR = 3600.0


@dataclass(frozen=True)
class Unfolded:
    """Local stamps as passing time.

    Args:
        seconds: of each stamp, such that differences are time that passed.
        changes: days on which the clocks changed.
        unresolved: indices of stamps in a repeated hour that could not be told apart.
    """

    seconds: list[float]
    changes: tuple[date, ...]
    unresolved: frozenset[int]


def unfold(local: Sequence[float], seasons: Sequence[Season | None], by_order: bool) -> Unfolded:
    """Undo changes of the clocks in `local`, seconds since 1970 as if in UTC.

    A season says which clocks a stamp is of. Without it, if `by_order`, an hour that repeats or is missing in one of
    the nights in which clocks change counts as a change, provided that usual spacing results.
    """
    rising = [b - a for a, b in pairwise(local) if b > a]
    step = median(rising) if rising else 0.0
    now: Season | None = seasons[0] if seasons else None
    shift, seconds, changes, unresolved = 0.0, list(local[:1]), [], set()
    for at in range(1, len(local)):
        raw, season = local[at] - local[at - 1], seasons[at]
        if season is None and by_order:
            season = _season(local[at], raw, step, now)
        if season is not None:
            if (now is not None and season != now) or (now is None and (seasons[at] is None or raw <= 0)):
                shift += HOUR if season == "winter" else -HOUR
                changes.append(_day(local[at]))
            now = season
        elif by_order and -2 * HOUR < raw <= 0 and _sets_back(_day(local[at])):
            unresolved.add(at)
        seconds.append(local[at] + shift)
    return Unfolded(seconds, tuple(changes), frozenset(unresolved))


def _season(stamp: float, raw: float, step: float, now: Season | None) -> Season | None:
    """The season that begins with a stamp, `raw` seconds of local time after the one before it; None: none does."""
    hour, day = int(stamp % 86400 // 3600), _day(stamp)
    if raw <= 0 < raw + HOUR <= 1.5 * step and hour <= 3 and now != "winter" and _sets_back(day):
        return "winter"
    if 1.5 * step < raw and 0.5 * step <= raw - HOUR <= 1.5 * step and 1 <= hour <= 4 and now != "summer":
        return "summer" if _sets_forward(day) else None
    return None


def _day(stamp: float) -> date:
    return datetime.fromtimestamp(stamp, UTC).date()


def _sets_back(day: date) -> bool:
    """Whether clocks are set back on `day` in Europe, North America, or Australia and New Zealand."""
    return day.weekday() == 6 and ((day.month == 10 and day.day >= 25) or (day.month in (4, 11) and day.day <= 7))


def _sets_forward(day: date) -> bool:
    """Whether clocks are set forward on `day` in one of these places."""
    return day.weekday() == 6 and (
        (day.month == 3 and (8 <= day.day <= 14 or day.day >= 25))
        or (day.month == 9 and day.day >= 24)
        or (day.month == 10 and day.day <= 7)
    )
