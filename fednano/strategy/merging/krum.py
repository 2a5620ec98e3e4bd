"""Multi-Krum: the mean of the updates that lie closest to the others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from fednano.core import tensors
from fednano.core.tensors import State
from fednano.strategy.base import Accumulator
from fednano.strategy.mean import WeightedMean
from fednano.strategy.merging.base import KeepAll, KeptUpdate


@dataclass(frozen=True)
class Krum:
    """The mean of the `m` updates with the lowest scores: Σ ‖Δᵢ − Δⱼ‖² over the n − f − 2 updates j closest to i.

    Source: Blanchard et al. 2017 (1703.02757). Updates of equal score are taken in the order of their clients' names.

    Args:
        f: number of broken updates to withstand; a merge needs 2f + 3 updates; None: as many as the number n of updates
            allows, (n − 3) // 2.
        m: number of updates to average, 1 for plain Krum; null: n − f − 2. With f > 0, n must be at least m + f + 2,
            or broken updates could be among them.
    """

    weighted: ClassVar[bool] = False
    keeps: ClassVar[bool] = True
    f: int | None = None
    m: int | None = None

    def __post_init__(self) -> None:
        if self.f is not None and self.f < 0:
            raise ValueError(f"strategy.merging.f must be >= 0, got {self.f}; use a number of broken updates, or null")
        if self.m is not None and self.m < 1:
            raise ValueError(f"strategy.merging.m must be >= 1, got {self.m}; use 1 or more updates, or null")

    @property
    def least(self) -> int:
        return max(2 * (1 if self.f is None else self.f) + 3, self._needed)

    @property
    def because(self) -> str:
        if self._needed == self.least:
            return f"strategy.merging.m={self.m}"
        return "strategy/merging=krum" if self.f is None else f"strategy.merging.f={self.f}"

    @property
    def _needed(self) -> int:
        """The least number of updates of which m may be averaged."""
        if self.m is None:
            return 0
        if self.f is None:
            return 2 * self.m  # n − (n − 3) // 2 − 2 is n // 2
        return self.m + self.f + 2 if self.f else self.m

    def accumulator(self, like: State) -> Accumulator:
        return KeepAll(like, self.merge)

    def merge(self, kept: Sequence[KeptUpdate]) -> State:
        """The mean of the chosen updates, float32."""
        mean = WeightedMean(kept[0].delta)
        for index in self.chosen([each.delta for each in kept]):
            mean.add(kept[index].delta, 1.0)
        return mean.result()

    def chosen(self, deltas: Sequence[State]) -> list[int]:
        """The indices of the updates to average, lowest score first."""
        n = len(deltas)
        distances, close = squared_distances(deltas), n - (max(0, (n - 3) // 2) if self.f is None else self.f) - 2
        scores = [math.fsum(sorted(row[:i] + row[i + 1 :])[:close]) for i, row in enumerate(distances)]
        ranked = sorted(range(n), key=scores.__getitem__)  # which is stable
        return ranked[: close if self.m is None else self.m]


def squared_distances(deltas: Sequence[State]) -> list[list[float]]:
    """‖Δᵢ − Δⱼ‖² for all i and j, in float64 and in blocks.

    Differences are squared as they are: in ‖Δᵢ‖² + ‖Δⱼ‖² − 2 Δᵢ·Δⱼ, small distances drown in rounding errors.
    """
    n = len(deltas)
    pairs = [(i, j) for i in range(n) for j in range(i)]
    parts: list[list[list[float]]] = [[[] for _ in range(n)] for _ in range(n)]
    for blocks in zip(*(tensors.blocks(delta) for delta in deltas), strict=True):
        rows = [block.values.to(torch.float64) for block in blocks]
        for i, j in pairs:
            parts[i][j].append(float((rows[i] - rows[j]).square_().sum()))
    return [[math.fsum(parts[max(i, j)][min(i, j)]) for j in range(n)] for i in range(n)]
