"""Folding updates into one mean, one at a time: memory does not grow with the number of clients."""

from fednano import tensors
from fednano.tensors import State


class Accumulator:
    """Σ w·Δ and Σ w, in float32."""

    def __init__(self, like: State) -> None:
        self._sum = tensors.zeros_like(like)
        self._weight = 0.0
        self.updates = 0

    def fold(self, delta: State, weight: float) -> None:
        """Add w·Δ. Raises ValueError for a weight that is not positive or names that do not match."""
        if not weight > 0:
            raise ValueError(f"an update's weight must be positive, not {weight}")
        if {name: t.shape for name, t in delta.items()} != {name: t.shape for name, t in self._sum.items()}:
            raise ValueError("an update has other tensors than the global model")
        tensors.add_scaled_(self._sum, delta, weight)
        self._weight += weight
        self.updates += 1

    def mean(self) -> State:
        """Σ w·Δ / Σ w; the accumulator is spent."""
        for tensor in self._sum.values():
            tensor.div_(self._weight)
        return self._sum
