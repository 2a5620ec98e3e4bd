"""Folding updates into one mean, one at a time: memory does not grow with the number of clients."""

from collections.abc import Callable

import torch

from fednano import tensors
from fednano.tensors import State


class Accumulator:
    """Σ w·Δ and Σ w, in float32; of tensors whose name `is_count`, the maximum in place of a mean."""

    def __init__(self, like: State, is_count: Callable[[str], bool] = lambda name: False) -> None:
        self._sum = tensors.zeros_like({name: tensor for name, tensor in like.items() if not is_count(name)})
        self._most = tensors.zeros_like({name: tensor for name, tensor in like.items() if is_count(name)})
        self._weight = 0.0
        self.updates = 0

    def fold(self, delta: State, weight: float) -> None:
        """Add w·Δ. Raises ValueError for a weight that is not positive or names that do not match."""
        if not weight > 0:
            raise ValueError(f"an update's weight must be positive, not {weight}")
        self.check(delta)
        tensors.add_scaled_(self._sum, delta, weight)
        for name, most in self._most.items():
            torch.maximum(most, delta[name], out=most)
        self._weight += weight
        self.updates += 1

    def check(self, delta: State) -> None:
        """Raise ValueError unless names and shapes are those of the accumulator."""
        expected = {name: t.shape for name, t in (self._sum | self._most).items()}
        if {name: t.shape for name, t in delta.items()} != expected:
            raise ValueError("an update has other tensors than the global model")

    def mean(self) -> State:
        """Σ w·Δ / Σ w; the accumulator is spent."""
        for tensor in self._sum.values():
            tensor.div_(self._weight)
        return self._sum | self._most
