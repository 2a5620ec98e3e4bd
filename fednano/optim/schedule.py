"""Learning-rate schedules: a factor as a function of the global token count."""

import math
from dataclasses import dataclass
from typing import Protocol


class Schedule(Protocol):
    """A pure function from progress to a factor on every learning rate."""

    def scale(self, tokens: int, horizon: int) -> float:
        """Factor after `tokens` of `horizon` global tokens; clamped at both ends.

        Raises:
            ValueError: the horizon is not positive and finite.
        """


@dataclass(frozen=True)
class Trapezoid:
    """Linear warm-up, a plateau at 1, linear warm-down to `final`.

    Args:
        warmup: share of the horizon spent rising from 0.
        warmdown: share of the horizon spent falling at the end.
        final: factor at and after the end.
    """

    warmup: float = 0.0
    warmdown: float = 0.4
    final: float = 0.0

    def __post_init__(self) -> None:
        for key in ("warmup", "warmdown", "final"):
            value = getattr(self, key)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"optim.schedule.{key} must be from 0 to 1, got {value}; it is a share")
        if self.warmup + self.warmdown > 1.0:
            raise ValueError(
                f"optim.schedule.warmup + optim.schedule.warmdown must be <= 1, got {self.warmup} + {self.warmdown}; "
                "lower either one"
            )

    def scale(self, tokens: int, horizon: int) -> float:
        if not 0 < horizon < math.inf:
            raise ValueError(
                f"the schedule's horizon must be > 0 tokens and finite, got {horizon}; give a finite number of rounds"
            )
        progress = min(1.0, max(0.0, tokens / horizon))
        if progress < self.warmup:
            return progress / self.warmup
        if progress > 1.0 - self.warmdown:
            return self.final + (1.0 - self.final) * (1.0 - progress) / self.warmdown
        return 1.0
