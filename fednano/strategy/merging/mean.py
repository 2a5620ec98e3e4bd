"""The weighted mean of updates as a choice of merging."""

from dataclasses import dataclass
from typing import ClassVar

from fednano.core.tensors import State
from fednano.strategy.base import Accumulator
from fednano.strategy.mean import WeightedMean


@dataclass(frozen=True)
class Mean:
    """Σ w·Δ / Σ w."""

    weighted: ClassVar[bool] = True
    keeps: ClassVar[bool] = False
    least: ClassVar[int] = 1
    because: ClassVar[str] = "strategy/merging=mean"

    def accumulator(self, like: State) -> Accumulator:
        return WeightedMean(like)
