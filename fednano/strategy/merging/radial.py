"""The radial-directional mean of updates, as in Decoupled DiLoCo."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fednano.core import tensors
from fednano.core.tensors import State
from fednano.strategy.base import Accumulator, Update
from fednano.strategy.mean import WeightedSum

BLOCKS = "blocks."  # the names of what lies inside the blocks of `fednano.model.gpt.GPT`


@dataclass(frozen=True)
class Radial:
    """(Σ w‖v‖ / Σ w) · unit(Σ w·unit(v)) for each matrix v; Σ w·v / Σ w for everything else.

    The mean of updates that point apart is shorter than each of them. Here its length is the mean of their lengths.
    Matrices are the two-dimensional tensors inside the blocks, those that Muon steps. Embeddings, the head, vectors and
    scalars get the weighted mean. Source: Decoupled DiLoCo (2604.21428).
    """

    weighted: ClassVar[bool] = True
    keeps: ClassVar[bool] = False
    least: ClassVar[int] = 1
    because: ClassVar[str] = "strategy/merging=radial"

    def accumulator(self, like: State) -> Accumulator:
        return RadialMean(like)


def is_matrix(name: str, tensor: Tensor) -> bool:
    """Whether a tensor of the model's state counts as a matrix."""
    return tensor.ndim == 2 and name.startswith(BLOCKS)


class RadialMean:
    """Implements `Accumulator` in memory independent of the number of clients; the order of updates leaves no trace."""

    def __init__(self, like: State) -> None:
        self._shapes = tensors.shapes(like)
        self._sums = {name: WeightedSum(tensor.numel()) for name, tensor in like.items()}
        self._radii: dict[str, list[float]] = {name: [] for name, tensor in like.items() if is_matrix(name, tensor)}
        self._weights: list[float] = []

    def add(self, delta: Mapping[str, Tensor], weight: float, update: Update) -> None:
        """Add an update. Raises ValueError if names or shapes do not match."""
        if tensors.shapes(delta) != self._shapes:
            raise ValueError("the names and shapes of an update's tensors must be those of the global model")
        self._weights.append(weight)
        if not self._shapes:  # of a run that trains nothing
            return
        squares: dict[str, list[float]] = {name: [] for name in self._radii}
        for name, _, values in tensors.blocks(delta):
            if name in squares:
                squares[name].append(float(values.to(torch.float64, copy=True).square_().sum()))
        lengths = {name: math.sqrt(math.fsum(found)) for name, found in squares.items()}
        for name, start, values in tensors.blocks(delta):
            length = lengths.get(name, 1.0)
            if length > 0.0:  # the unit vector of 0 is 0
                self._sums[name].add(start, values, weight / length)
        for name, length in lengths.items():
            self._radii[name].append(weight * length)

    def result(self) -> State:
        """The radial-directional mean in float32; the accumulator cannot be used afterwards."""
        weight = math.fsum(self._weights)
        merged: State = {}
        for name, shape in self._shapes.items():
            total, divisor = self._sums.pop(name), weight
            if name in self._radii:
                # Without a direction, since all updates are 0 or cancel out, the sum is 0 whatever it is divided by.
                radius = math.fsum(self._radii[name])
                divisor = weight * total.norm() / radius if radius else 0.0
            merged[name] = total.over(divisor or math.inf).reshape(shape)
        return merged
