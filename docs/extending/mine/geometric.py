"""Geometric median of the updates (RFA, Pillutla et al. 2022, 1912.13445)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fednano.core import tensors
from fednano.core.tensors import State
from fednano.strategy.base import Accumulator
from fednano.strategy.mean import WeightedMean
from fednano.strategy.merging.base import KeepAll, KeptUpdate


@dataclass(frozen=True)
class GeometricMedian:
    """The point with the least sum of distances to the updates: a minority of broken clients cannot move it far."""

    weighted: ClassVar[bool] = False  # all updates count alike
    keeps: ClassVar[bool] = True  # every update of a round is kept until the merge
    least: ClassVar[int] = 3  # of two updates, neither is in the minority
    because: ClassVar[str] = "strategy=geometric"
    iterations: int = 4  # of Weiszfeld's algorithm, which begins at the mean

    def accumulator(self, like: State) -> Accumulator:
        return KeepAll(like, self.merge)

    def merge(self, kept: Sequence[KeptUpdate]) -> State:
        median = mean(kept, [1.0] * len(kept))
        for _ in range(self.iterations):
            distances = [tensors.norm(tensors.subtract(median, each.delta)) for each in kept]
            median = mean(kept, [1.0 / max(distance, 1e-6) for distance in distances])
        return median


def mean(kept: Sequence[KeptUpdate], weights: Sequence[float]) -> State:
    total = WeightedMean(kept[0].delta)
    for each, weight in zip(kept, weights, strict=True):
        total.add(each.delta, weight)
    return total.result()
