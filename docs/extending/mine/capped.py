"""An outer optimizer: Nesterov momentum whose step is never much longer than the mean update."""

from dataclasses import dataclass

from fednano.core.tensors import State


@dataclass(frozen=True, kw_only=True)
class Capped:
    """m ← βm + Δ; θ ← θ − η · s with s = βm + Δ, each tensor of s shortened to `cap` times the length of its Δ.

    Args:
        lr: η, the outer learning rate.
        momentum: β, the share of m that each step keeps.
        cap: the largest ‖s‖ / ‖Δ‖.
    """

    lr: float = 0.7
    momentum: float = 0.9
    cap: float = 2.0

    def __post_init__(self) -> None:
        if not self.cap >= 1:
            raise ValueError(f"strategy.outer.cap must be >= 1, got {self.cap}; 1 is about plain averaging")

    def step(self, weights: State, outer: State, delta: State, scale: float = 1.0) -> tuple[State, State]:
        """New weights, and m for the next step; `outer` is empty before the first one."""
        stepped, momenta = {}, {}
        for name, weight in weights.items():
            change = delta[name]
            m = self.momentum * outer[name] + change if outer else change
            s = self.momentum * m + change
            shorter = (self.cap * change.norm() / s.norm().clamp(min=1e-12)).clamp(max=1.0)
            stepped[name], momenta[name] = weight - scale * self.lr * shorter * s, m
        return stepped, momenta
