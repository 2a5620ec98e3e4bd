"""Nesterov's accelerated gradient: the outer step of DiLoCo."""

from dataclasses import dataclass

import torch

from fednano.core.tensors import State
from fednano.strategy.outer.base import blank, check_decay, check_lr, in_blocks
from fednano.strategy.outer.momentum import accumulate


@dataclass(frozen=True)
class Nesterov:
    """m ← βm + Δ; θ ← θ − η(βm + Δ), the outer step of DiLoCo (Douillard et al. 2023, algorithm 1).

    The state is m, under the names of the weights; m = 0 before the first step.
    """

    lr: float = 0.7
    momentum: float = 0.9

    def __post_init__(self) -> None:
        check_lr(self.lr)
        check_decay("momentum", self.momentum)

    def step(self, weights: State, outer: State, delta: State, scale: float = 1.0) -> tuple[State, State]:
        lr, stepped, momenta = scale * self.lr, blank(weights), blank(delta)
        for name, weight in weights.items():
            last = outer[name] if outer else delta[name]
            for new, m, old, before, change in in_blocks(stepped[name], momenta[name], weight, last, delta[name]):
                accumulate(m, before if outer else None, change, self.momentum)
                torch.sub(old, (m * self.momentum).add_(change).mul_(lr), out=new)
        return stepped, momenta
