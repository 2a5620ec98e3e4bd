"""Nesterov's accelerated gradient: the outer step of DiLoCo."""

from dataclasses import dataclass

from torch import Tensor

from fednano.strategy.outer.momentum import Accelerated


@dataclass(frozen=True)
class Nesterov(Accelerated):
    """m ← βm + Δ; θ ← θ − η(βm + Δ), the outer step of DiLoCo (Douillard et al. 2023, algorithm 1)."""

    lr: float = 0.7

    def direction(self, m: Tensor, change: Tensor) -> Tensor:
        return (m * self.momentum).add_(change)
