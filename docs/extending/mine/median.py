"""Coordinate-wise median of the updates (Yin et al. 2018, 1803.01498)."""

from dataclasses import dataclass

import torch

from fednano.core.tensors import State
from fednano.strategy.base import Accumulator, Update
from fednano.strategy.diloco import DiLoCo


class Median:
    """Keeps every update of a round, and takes the median of each number."""

    def __init__(self) -> None:
        self._deltas: list[State] = []

    def add(self, delta: State, weight: float, update: Update) -> None:
        self._deltas.append(delta)

    def result(self) -> State:
        first = self._deltas[0]
        # Of an even number of values, torch.median takes the lower middle one, quantile the mean of both.
        return {name: torch.stack([delta[name] for delta in self._deltas]).quantile(0.5, dim=0) for name in first}


@dataclass(frozen=True, kw_only=True)
class CoordinateMedian(DiLoCo):
    """DiLoCo whose pseudo-gradient is the median of the updates: a minority of broken clients cannot move it far."""

    def accumulator(self, like: State) -> Accumulator:
        return Median()
