"""Adam without bias correction: the outer step of FedAdam, and what FedYogi shares with it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fednano.core.tensors import State
from fednano.strategy.outer.base import blank, check_decay, check_lr, in_blocks

FIRST, SECOND = "m.", "v."  # prefixes of the state's names


@dataclass(frozen=True)
class Adam:
    """m ← β₁m + (1 − β₁)Δ; v ← β₂v + (1 − β₂)Δ²; θ ← θ − ηm / (√v + τ), from m = v = 0.

    Source: Reddi et al. 2021 (2003.00295), algorithm 2, which has no bias correction. The paper begins with v ≥ τ²;
    0 is what Flower begins with.

    Args:
        lr: η, the outer learning rate; with β₁ = β₂ = 0, the change of an entry whose Δ is far above τ.
        beta1: β₁, decay of m, the mean of Δ.
        beta2: β₂, decay of v, which follows Δ².
        tau: the Δ below which steps become shorter.
    """

    lr: float = 0.03
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        check_lr(self.lr)
        check_decay("beta1", self.beta1)
        check_decay("beta2", self.beta2)
        if not self.tau > 0:
            raise ValueError(f"strategy.outer.tau must be > 0, got {self.tau}; use a value such as 1e-3")

    def step(self, weights: State, outer: State, delta: State, scale: float = 1.0) -> tuple[State, State]:
        lr, stepped, first, second = scale * self.lr, blank(weights), blank(delta), blank(delta)
        for name, weight in weights.items():
            for moments, prefix in ((first, FIRST), (second, SECOND)):
                if outer:
                    moments[name].copy_(outer[prefix + name])
                else:
                    moments[name].zero_()
            for new, m, v, old, change in in_blocks(stepped[name], first[name], second[name], weight, delta[name]):
                m.mul_(self.beta1).add_(change * (1.0 - self.beta1))
                self.follow(v, change.square())
                torch.sub(old, m.mul(lr).div_(v.sqrt().add_(self.tau)), out=new)
        named = {FIRST + name: m for name, m in first.items()} | {SECOND + name: v for name, v in second.items()}
        return stepped, named

    def follow(self, v: Tensor, square: Tensor) -> None:
        """Change the entries of `v` in place, after Δ² = `square`, which may be overwritten."""
        v.mul_(self.beta2).add_(square.mul_(1.0 - self.beta2))
