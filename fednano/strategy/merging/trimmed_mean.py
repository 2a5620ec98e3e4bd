"""The coordinate-wise trimmed mean of updates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fednano.core.tensors import State
from fednano.strategy.base import Accumulator
from fednano.strategy.merging.base import KeepAll, KeptUpdate
from fednano.strategy.merging.sorting import entrywise

TINY = 1e-9  # more than the rounding error of a share times a number of updates


@dataclass(frozen=True)
class TrimmedMean:
    """The mean of each entry without its ⌊share · n⌋ smallest and as many largest values, of n updates.

    Source: Yin et al. 2018 (1803.01498), definition 2.

    Args:
        share: of the updates, at each end; it needs so many updates that one at least is left out. 0: the plain mean.
    """

    weighted: ClassVar[bool] = False
    keeps: ClassVar[bool] = True
    share: float = 0.25

    def __post_init__(self) -> None:
        if not 0.0 <= self.share < 0.5:
            raise ValueError(
                f"strategy.merging.share must be >= 0 and < 0.5, got {self.share}; use less, so that something is left"
            )

    @property
    def least(self) -> int:
        return math.ceil(1.0 / self.share - TINY) if self.share else 1

    @property
    def because(self) -> str:
        return f"strategy.merging.share={self.share:g}"

    def accumulator(self, like: State) -> Accumulator:
        return KeepAll(like, self.merge)

    def merge(self, kept: Sequence[KeptUpdate]) -> State:
        """The trimmed mean of each entry over the updates, float32."""
        cut = math.floor(self.share * len(kept) + TINY)

        def mean(rows: list[Tensor]) -> Tensor:
            total = torch.zeros_like(rows[0], dtype=torch.float64)
            for row in rows[cut : len(rows) - cut]:
                total.add_(row)
            return total.div_(len(rows) - 2 * cut)

        return entrywise([each.delta for each in kept], mean)
