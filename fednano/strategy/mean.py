"""The weighted mean of updates, accumulated one at a time in memory independent of the number of clients."""

import math
from collections.abc import Callable, Mapping

import fednano_rustbpe as rust
import numpy as np
import torch
from torch import Tensor

from fednano.core import tensors
from fednano.core.tensors import BLOCK, State
from fednano.strategy.base import Update


class WeightedMean:
    """Implements `Accumulator`: Σ w·Δ and Σ w; tensors whose name `is_count` get the maximum, not the mean.

    The mean is bit-identical for any order of the updates, so a replay merges what the live federation merged. Sums are
    kept in float64 together with the rounding errors of the additions (Knuth's two-sum), 12 bytes per entry. The order
    changes a float32 of the mean with a probability of about 2⁻⁵⁰.
    """

    def __init__(self, like: State, is_count: Callable[[str], bool] = lambda name: False) -> None:
        self._shapes = tensors.shapes(like)
        summed = {name: tensor for name, tensor in like.items() if not is_count(name)}
        self._sum = {name: np.zeros(tensor.numel()) for name, tensor in summed.items()}
        self._rest = {name: np.zeros(tensor.numel(), np.float32) for name, tensor in summed.items()}
        self._most = {name: torch.zeros_like(like[name], dtype=torch.float32) for name in like.keys() - summed.keys()}
        self._weights: list[float] = []

    def add(self, delta: Mapping[str, Tensor], weight: float, update: Update | None = None) -> None:
        """Add w·Δ. Raises ValueError if the weight is not positive or names or shapes do not match."""
        if not weight > 0:
            raise ValueError(f"an update's weight must be > 0, got {weight}")
        self.check(delta)
        for name, start, values in tensors.blocks(delta):
            block = slice(start, start + values.numel())
            if name in self._sum:
                rust.accumulate(self._sum[name][block], self._rest[name][block], tensors.floats(values), weight)
            else:
                most = self._most[name].view(-1)[block]
                torch.maximum(most, values, out=most)
        self._weights.append(weight)

    def check(self, delta: Mapping[str, Tensor]) -> None:
        """Raise ValueError unless names and shapes match the accumulator's."""
        if tensors.shapes(delta) != self._shapes:
            raise ValueError("the names and shapes of an update's tensors must be those of the global model")

    def result(self) -> State:
        """Σ w·Δ / Σ w in float32; the accumulator cannot be used afterwards."""
        weight = math.fsum(self._weights)
        mean = self._most
        for name in list(self._sum):
            total, rest = self._sum.pop(name), self._rest.pop(name)
            for start in range(0, rest.size, BLOCK):
                block = slice(start, start + BLOCK)
                # The mean reuses the remainders' memory.
                rest[block] = (total[block] + rest[block]) / weight
            mean[name] = torch.from_numpy(rest).reshape(self._shapes[name])
        return {name: mean[name] for name in self._shapes}
