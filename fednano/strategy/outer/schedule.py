"""Schedules of the outer learning rate: a factor as a function of the tokens merged so far."""

import math
from dataclasses import dataclass
from typing import Protocol


class OuterSchedule(Protocol):
    """A pure function from progress to a factor on the outer learning rate."""

    def scale(self, tokens: int, horizon: int) -> float:
        """The factor of the step after `tokens` of `horizon` tokens; clamped at both ends.

        Raises:
            ValueError: the horizon is unknown (0) and the factor depends on it. A run always knows it.
        """


@dataclass(frozen=True)
class Constant:
    """The learning rate stays what it is."""

    def scale(self, tokens: int, horizon: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Warmup:
    """Rises linearly from `start` to 1, then stays there.

    Args:
        warmup: share of the horizon spent rising.
        start: factor of the first step, before which nothing has been merged.
    """

    warmup: float = 0.1
    start: float = 0.1

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"strategy.schedule.{key} must be from 0 to 1, got {value}; use a share")
        if self.start == 0.0:
            raise ValueError("strategy.schedule.start must be > 0, got 0; the first round would change nothing")

    def scale(self, tokens: int, horizon: int) -> float:
        progress = _progress(tokens, horizon)
        return 1.0 if progress >= self.warmup else self.start + (1.0 - self.start) * progress / self.warmup


@dataclass(frozen=True)
class Cosine(Warmup):
    """After the warm-up, falls from 1 to `floor` at the horizon along half a cosine wave.

    Args:
        floor: factor at and after the horizon.
    """

    warmup: float = 0.0
    floor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup == 1.0:
            raise ValueError("strategy.schedule.warmup must be < 1, got 1; use less, or strategy/schedule=warmup")

    def scale(self, tokens: int, horizon: int) -> float:
        progress = _progress(tokens, horizon)
        if progress < self.warmup:
            return super().scale(tokens, horizon)
        fallen = (progress - self.warmup) / (1.0 - self.warmup)
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * fallen))


def _progress(tokens: int, horizon: int) -> float:
    if not horizon > 0:
        raise ValueError(
            f"a schedule of the outer learning rate needs the number of tokens at which it ends, got {horizon}; use "
            "strategy/schedule=constant"
        )
    return min(1.0, max(0.0, tokens / horizon))
