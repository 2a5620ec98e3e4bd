"""Heavy-ball momentum: the outer step of FedAvgM."""

from dataclasses import dataclass

import torch

from fednano.core.tensors import State
from fednano.strategy.outer.base import blank, check_decay, check_lr, in_blocks


@dataclass(frozen=True)
class Momentum:
    """m ← βm + Δ; θ ← θ − ηm, the server momentum of FedAvgM (Hsu et al. 2019, 1909.06335).

    The state is m, under the names of the weights; m = 0 before the first step.
    """

    lr: float = 1.0
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
                torch.sub(old, m * lr, out=new)
        return stepped, momenta


def accumulate(m: torch.Tensor, before: torch.Tensor | None, change: torch.Tensor, beta: float) -> None:
    """m ← β · before + Δ, written to `m`; `before` is None at the first step."""
    if before is None:
        m.copy_(change)
    else:
        torch.mul(before, beta, out=m).add_(change)
