"""Outer optimizers: pure functions (θ, state, Δ) → (θ, state), where Δ = θ_global − θ_local is the gradient."""

from dataclasses import dataclass
from typing import Protocol

from fednano.core.tensors import State


class Outer(Protocol):
    """The optimizer that steps the global model."""

    def step(self, weights: State, outer: State, delta: State) -> tuple[State, State]:
        """New weights and new optimizer state; the arguments are not changed."""


def _check_lr(lr: float) -> None:
    if not lr > 0:
        raise ValueError(f"strategy.outer.lr must be > 0, got {lr}; use 1 for plain averaging, about 0.7 for DiLoCo")


@dataclass(frozen=True)
class SGD:
    """θ ← θ − ηΔ; η = 1 is plain averaging (FedAvg, McMahan et al. 2017)."""

    lr: float = 1.0

    def __post_init__(self) -> None:
        _check_lr(self.lr)

    def step(self, weights: State, outer: State, delta: State) -> tuple[State, State]:
        return {name: (w - self.lr * delta[name]).to(w.dtype) for name, w in weights.items()}, outer


@dataclass(frozen=True)
class Nesterov:
    """m ← βm + Δ; θ ← θ − η(βm + Δ), the outer step of DiLoCo (Douillard et al. 2023, algorithm 1)."""

    lr: float = 0.7
    momentum: float = 0.9

    def __post_init__(self) -> None:
        _check_lr(self.lr)
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(
                f"strategy.outer.momentum must be >= 0 and < 1, got {self.momentum}; use a value such as 0.9"
            )

    def step(self, weights: State, outer: State, delta: State) -> tuple[State, State]:
        beta = self.momentum
        momenta = {name: beta * outer[name] + d if outer else d.clone() for name, d in delta.items()}
        stepped = {
            name: (w - self.lr * (beta * momenta[name] + delta[name])).to(w.dtype) for name, w in weights.items()
        }
        return stepped, momenta
