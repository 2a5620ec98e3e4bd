"""Heavy-ball momentum, the outer step of FedAvgM, and what it shares with Nesterov's."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from fednano.core.tensors import State
from fednano.strategy.outer.base import blank, check_decay, check_lr, in_blocks


@dataclass(frozen=True)
class Accelerated(ABC):
    """m ← βm + Δ; θ ← θ − η · `direction(m, Δ)`.

    The state is m, under the names of the weights; m = 0 before the first step.

    Args:
        lr: η, the outer learning rate.
        momentum: β, the share of m that each step keeps.
    """

    lr: float
    momentum: float = 0.9

    def __post_init__(self) -> None:
        check_lr(self.lr)
        check_decay("momentum", self.momentum)

    @abstractmethod
    def direction(self, m: Tensor, change: Tensor) -> Tensor:
        """What is stepped along, in memory of its own."""

    def step(self, weights: State, outer: State, delta: State, scale: float = 1.0) -> tuple[State, State]:
        lr, stepped, momenta = scale * self.lr, blank(weights), blank(delta)
        for name, weight in weights.items():
            last = outer[name] if outer else delta[name]
            for new, m, old, before, change in in_blocks(stepped[name], momenta[name], weight, last, delta[name]):
                if outer:
                    torch.mul(before, self.momentum, out=m).add_(change)
                else:
                    m.copy_(change)
                torch.sub(old, self.direction(m, change).mul_(lr), out=new)
        return stepped, momenta


@dataclass(frozen=True)
class Momentum(Accelerated):
    """m ← βm + Δ; θ ← θ − ηm, the server momentum of FedAvgM (Hsu et al. 2019, 1909.06335)."""

    lr: float = 1.0

    def direction(self, m: Tensor, change: Tensor) -> Tensor:
        return m.clone()
