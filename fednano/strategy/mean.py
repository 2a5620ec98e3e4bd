"""The weighted mean of updates, taken one at a time: memory does not grow with the number of clients."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fednano.core.tensors import State
from fednano.strategy.base import Update

BLOCK = 1 << 15  # entries summed at a time: what lies between stays in the cache, and torch calls no second thread


class WeightedMean:
    """Implements `Accumulator`: Σ w·Δ and Σ w; of tensors whose name `is_count`, the maximum in place of a mean.

    The mean is the same, bit for bit, in whatever order the updates come: a live federation merges what a replay of it
    does. Sums are kept in float64 with what each addition rounded off beside them (Knuth's two-sum), 12 bytes an entry;
    that the order shows in a float32 of the mean has a chance of about 2⁻⁵⁰.
    """

    def __init__(self, like: State, is_count: Callable[[str], bool] = lambda name: False) -> None:
        self._shapes = {name: tensor.shape for name, tensor in like.items()}
        summed = {name: tensor for name, tensor in like.items() if not is_count(name)}
        self._sum = {name: torch.zeros(tensor.numel(), dtype=torch.float64) for name, tensor in summed.items()}
        self._rest = {name: torch.zeros(tensor.numel()) for name, tensor in summed.items()}
        self._most = {name: torch.zeros_like(like[name], dtype=torch.float32) for name in like.keys() - summed.keys()}
        self._weights: list[float] = []

    def add(self, delta: State, weight: float, update: Update | None = None) -> None:
        """Add w·Δ. Raises ValueError for a weight that is not positive or names that do not match."""
        if not weight > 0:
            raise ValueError(f"an update's weight must be positive, not {weight}")
        self.check(delta)
        for name, total in self._sum.items():
            flat = delta[name].detach().reshape(-1)
            for start in range(0, flat.numel(), BLOCK):
                block = slice(start, start + BLOCK)
                _add(total[block], self._rest[name][block], flat[block], weight)
        for name, most in self._most.items():
            torch.maximum(most, delta[name], out=most)
        self._weights.append(weight)

    def check(self, delta: State) -> None:
        """Raise ValueError unless names and shapes are those of the accumulator."""
        if {name: t.shape for name, t in delta.items()} != self._shapes:
            raise ValueError("an update has other tensors than the global model")

    def result(self) -> State:
        """Σ w·Δ / Σ w in float32; the accumulator is spent."""
        weight = math.fsum(self._weights)
        mean = self._most
        for name in list(self._sum):
            total, rest = self._sum.pop(name), self._rest.pop(name)
            for start in range(0, rest.numel(), BLOCK):
                block = slice(start, start + BLOCK)
                # Where the remainders were, the mean takes their memory.
                rest[block] = total[block].add_(rest[block]).div_(weight)
            mean[name] = rest.reshape(self._shapes[name])
        return {name: mean[name] for name in self._shapes}


def _add(total: Tensor, rest: Tensor, delta: Tensor, weight: float) -> None:
    """total + rest ← total + rest + weight · delta; float64 holds the product exactly for weights below 2²⁹."""
    term = delta.to(torch.float64, copy=True).mul_(weight)
    before = total.clone()
    total.add_(term)
    came = total - before
    # What the sum rounded off: (before − (total − came)) + (term − came).
    rest.add_(before.sub_(total - came).add_(term.sub_(came)))
