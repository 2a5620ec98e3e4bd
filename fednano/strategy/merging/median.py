"""The coordinate-wise median of updates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fednano.core.tensors import State
from fednano.strategy.base import Accumulator
from fednano.strategy.merging.base import KeepAll, KeptUpdate
from fednano.strategy.merging.sorting import entrywise


@dataclass(frozen=True)
class Median:
    """The median of each entry; of an even number of updates, the mean of the two middle values.

    It needs three updates, since one broken update moves the median of two as far as it likes.
    Source: Yin et al. 2018 (1803.01498), definition 1.
    """

    weighted: ClassVar[bool] = False
    keeps: ClassVar[bool] = True
    least: ClassVar[int] = 3
    because: ClassVar[str] = "strategy/merging=median"

    def accumulator(self, like: State) -> Accumulator:
        return KeepAll(like, median)


def median(kept: Sequence[KeptUpdate]) -> State:
    """The median of each entry over the updates, float32."""
    return entrywise([each.delta for each in kept], _middle)


def _middle(rows: list[Tensor]) -> Tensor:
    below, above = rows[(len(rows) - 1) // 2], rows[len(rows) // 2]
    return below if below is above else (below + above) / 2
