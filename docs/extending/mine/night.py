"""A volatility profile: clients that compute at night."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from fednano.volatility.availability import Availability, Window
from fednano.volatility.profiles import Profile

HOUR_S, DAY_S = 3600.0, 86400.0


@dataclass(frozen=True, kw_only=True)
class Night(Profile):
    """One window a day, from an evening hour to a morning hour; every client drains before it ends.

    Args:
        name: what summaries call it.
        begins_h: hour at which a window begins; the run begins at 0 h.
        ends_h: hour of the next day at which it ends.
        stagger_h: hours by which each client is later than the one before it.
        speedup: seconds of the day that pass in one of the run.
    """

    name: str = "night"
    begins_h: float = 22.0
    ends_h: float = 6.0
    stagger_h: float = 0.0
    speedup: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.ends_h < self.begins_h <= 24.0:
            raise ValueError(
                f"volatility.begins_h must be later in the day than volatility.ends_h, got {self.begins_h} and "
                f"{self.ends_h}; try 22 and 6"
            )

    def availability(self, client: str, index: int, seed: int) -> Availability:
        return Availability(self._windows(index * self.stagger_h * HOUR_S))

    def _windows(self, late_s: float) -> Iterator[Window]:
        for day in count(-1):
            start = (day * DAY_S + self.begins_h * HOUR_S + late_s) / self.speedup
            stop = ((day + 1) * DAY_S + self.ends_h * HOUR_S + late_s) / self.speedup
            if stop > 0:
                yield Window(max(0.0, start), stop, "drain")
