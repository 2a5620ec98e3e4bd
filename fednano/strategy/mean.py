"""The weighted mean of updates, accumulated one at a time in memory independent of the number of clients."""

import math
from collections.abc import Callable, Iterator, Mapping

import fednano_rustbpe as rust
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fednano.core import tensors
from fednano.core.tensors import BLOCK, State
from fednano.strategy.base import Update


class WeightedSum:
    """Σ w·x of flat tensors with `entries` entries, bit-identical for any order of the terms.

    The sum is kept in float64 together with the rounding errors of the additions (Knuth's two-sum), 12 bytes per entry.
    The order changes a float32 of the result with a probability of about 2⁻⁵⁰.
    """

    def __init__(self, entries: int) -> None:
        self._total = np.zeros(entries)
        self._rest = np.zeros(entries, np.float32)

    def add(self, start: int, values: Tensor, weight: float) -> None:
        """Add w·x to the entries from `start` on; the product is exact for whole weights below 2²⁹."""
        block = slice(start, start + values.numel())
        rust.accumulate(self._total[block], self._rest[block], tensors.floats(values), weight)

    def norm(self) -> float:
        """The Euclidean norm of the sum."""
        return math.sqrt(math.fsum(float(np.square(total + rest).sum()) for total, rest in self._blocks()))

    def over(self, divisor: float) -> Tensor:
        """The sum divided by `divisor` in float32, (entries,); the sum cannot be used afterwards."""
        for total, rest in self._blocks():
            rest[:] = (total + rest) / divisor  # the result reuses the remainders' memory
        return torch.from_numpy(self._rest)

    def _blocks(self) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float32]]]:
        for start in range(0, self._rest.size, BLOCK):
            yield self._total[start : start + BLOCK], self._rest[start : start + BLOCK]


class WeightedMean:
    """Implements `Accumulator`: Σ w·Δ / Σ w; tensors whose name `is_count` get the maximum, not the mean.

    The mean is bit-identical for any order of the updates, so a replay merges what the live federation merged.
    """

    def __init__(self, like: State, is_count: Callable[[str], bool] = lambda name: False) -> None:
        self._shapes = tensors.shapes(like)
        self._sums = {name: WeightedSum(tensor.numel()) for name, tensor in like.items() if not is_count(name)}
        self._most = {name: torch.zeros_like(like[name], dtype=torch.float32) for name in like.keys() - self._sums}
        self._weights: list[float] = []

    def add(self, delta: Mapping[str, Tensor], weight: float, update: Update | None = None) -> None:
        """Add w·Δ. Raises ValueError if the weight is not positive or names or shapes do not match."""
        if not weight > 0:
            raise ValueError(f"an update's weight must be > 0, got {weight}")
        self.check(delta)
        for name, start, values in tensors.blocks(delta):
            if name in self._sums:
                self._sums[name].add(start, values, weight)
            else:
                most = self._most[name].view(-1)[start : start + values.numel()]
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
        for name in list(self._sums):
            mean[name] = self._sums.pop(name).over(weight).reshape(self._shapes[name])
        return {name: mean[name] for name in self._shapes}
