"""Plain averaging: the outer step of FedAvg."""

from dataclasses import dataclass

import torch

from fednano.core.tensors import State
from fednano.strategy.outer.base import blank, check_lr, in_blocks


@dataclass(frozen=True)
class SGD:
    """θ ← θ − ηΔ; η = 1 is plain averaging (FedAvg, McMahan et al. 2017). It has no state.

    Args:
        lr: η, the outer learning rate.
    """

    lr: float = 1.0

    def __post_init__(self) -> None:
        check_lr(self.lr)

    def step(self, weights: State, outer: State, delta: State, scale: float = 1.0) -> tuple[State, State]:
        lr, stepped = scale * self.lr, blank(weights)
        for name, weight in weights.items():
            for new, old, change in in_blocks(stepped[name], weight, delta[name]):
                torch.sub(old, change * lr, out=new)
        return stepped, outer
