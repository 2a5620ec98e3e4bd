"""Coordinate-wise median of the updates (Yin et al. 2018, 1803.01498)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from fednano.strategy.diloco import DiLoCo
from torch import Tensor

from fednano.core.tensors import State
from fednano.strategy.base import Accumulator, ServerState, Update


class Median:
    """Keeps every update of a round, and takes the median of each number."""

    def __init__(self) -> None:
        self._deltas: list[State] = []

    def add(self, delta: Mapping[str, Tensor], weight: float, update: Update) -> None:
        self._deltas.append(dict(delta))

    def result(self) -> State:
        first = self._deltas[0]
        # Of an even number of values, torch.median takes the lower middle one, quantile the mean of both.
        return {name: torch.stack([delta[name] for delta in self._deltas]).quantile(0.5, dim=0) for name in first}


@dataclass(frozen=True, kw_only=True)
class CoordinateMedian(DiLoCo):
    """DiLoCo whose pseudo-gradient is the median of the updates: a minority of broken clients cannot move it far."""

    def accumulator(self, state: ServerState) -> Accumulator:
        return Median()
