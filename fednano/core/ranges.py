"""Ranges of numbers, which the annotations of settings carry."""

import math
from dataclasses import dataclass
from typing import Annotated

WHOLE = 1 << 63  # whole numbers stay below this in size, so that they fit into 64 bits
LEAST, MOST = 1e-12, 1e15  # sizes of other numbers, unless a range says otherwise


@dataclass(frozen=True, kw_only=True)
class Range:
    """The numbers from `ge` or above `gt` up to `le` or below `lt`; None: no limit on that side.

    NaN is in no range, and infinity only in one with `le=math.inf`. Write `Annotated[float, Range(gt=0, le=1)]`.
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def holds(self, value: float) -> bool:
        """Whether `value` is in the range."""
        return (
            not math.isnan(value)
            and (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )

    def missed(self, value: float) -> tuple[str, str]:
        """(condition, remedy) of the limit that a `value` out of range misses."""
        if math.isnan(value):
            return "a number", "use one"
        if self.ge is not None and not value >= self.ge:
            return f">= {_shown(self.ge)}", f"use {_shown(self.ge)} or more"
        if self.gt is not None and not value > self.gt:
            return f"> {_shown(self.gt)}", "use more"
        if self.le is not None and not value <= self.le:
            return f"<= {_shown(self.le)}", f"use {_shown(self.le)} or less"
        return f"< {_shown(self.lt or 0)}", "use less"


def _shown(limit: float) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def usual(value: float) -> bool:
    """Whether a number without a range of its own has a size that arithmetic can work with."""
    if isinstance(value, int):
        return -WHOLE <= value < WHOLE
    return value == 0 or LEAST <= abs(value) <= MOST  # NaN is in no interval


# Seconds of something that is over again and again while a run goes on; as long as 300 years.
Duration = Annotated[float, Range(ge=1e-3, le=1e10)]
# Factor by which a recorded clock is faster than the run's.
Speedup = Annotated[float, Range(ge=1e-6, le=1e6)]
