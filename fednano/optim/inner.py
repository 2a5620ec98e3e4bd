"""Inner optimizers: what one client steps with, its parameter groups and learning rates."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from fednano.model.gpt import GPT
from fednano.optim.muon import Muon
from fednano.optim.schedule import Schedule, Trapezoid

REFERENCE_WIDTH = 768  # AdamW learning rates are given for this width and scale with (C/768)^−½
StatePolicy = Literal["keep", "reset"]


class InnerOptimizer:
    """One or more torch optimizers over one model, stepped together under a common learning-rate scale."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        self._base = [[group["lr"] for group in part.param_groups] for part in parts]

    def step(self, lr_scale: float) -> None:
        """Apply the gradients at `lr_scale` times the configured learning rates, then clear them."""
        for part, rates in zip(self.parts, self._base, strict=True):
            for group, rate in zip(part.param_groups, rates, strict=True):
                group["lr"] = rate * lr_scale
            part.step()
            part.zero_grad(set_to_none=True)


class Optim(Protocol):
    """An `optim` choice: settings that build an optimizer for a model."""

    state: StatePolicy
    schedule: Schedule

    def build(self, model: GPT) -> InnerOptimizer:
        """A fresh optimizer over the model's parameters."""


def _check(settings: object, *keys: str) -> None:
    for key in keys:
        value = getattr(settings, key)
        if not value > 0:
            raise ValueError(f"optim.{key}={value} must be positive; a learning rate of 0 trains nothing")
    state = settings.state  # type: ignore[attr-defined]
    if state not in ("keep", "reset"):
        raise ValueError(f"optim.state={state} is unknown; use keep (over rounds) or reset (every round)")
    decay = settings.weight_decay  # type: ignore[attr-defined]
    if decay < 0:
        raise ValueError(f"optim.weight_decay={decay} must not be negative; use 0 for none")


def _split(model: GPT) -> tuple[list[Tensor], list[Tensor]]:
    """(matrices inside the blocks, residual scales)."""
    return list(model.blocks.parameters()), [model.resid_lambdas, model.x0_lambdas]


@dataclass(frozen=True)
class AdamW:
    """AdamW throughout.

    Args:
        lr: learning rate of the blocks and the head.
        embedding_lr: of the embedding, whose entries are of order 1.
        scalar_lr: of the residual scales.
        betas: decay of the two moments.
        weight_decay: decoupled, on the matrices of the blocks only.
        state: what a client does with the optimizer's state between rounds.
        schedule: factor on every rate by global tokens.
    """

    lr: float = 2e-3
    embedding_lr: float = 2e-2
    scalar_lr: float = 5e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    state: StatePolicy = "keep"
    schedule: Schedule = field(default_factory=Trapezoid)

    def __post_init__(self) -> None:
        _check(self, "lr", "embedding_lr", "scalar_lr")

    def build(self, model: GPT) -> InnerOptimizer:
        matrices, scalars = _split(model)
        groups = [
            {"params": matrices, "lr": self.lr, "weight_decay": self.weight_decay},
            {"params": [model.head.weight], "lr": self.lr},
            {"params": [model.embedding.weight], "lr": self.embedding_lr},
            {"params": scalars, "lr": self.scalar_lr},
        ]
        return InnerOptimizer(_adamw(groups, self.betas))


@dataclass(frozen=True)
class MuonAdamW:
    """Muon for the matrices of the blocks, AdamW for embedding, head and scalars.

    Args:
        matrix_lr: Muon's learning rate.
        embedding_lr: AdamW, at width 768; scaled by (C/768)^−½.
        head_lr: AdamW, at width 768; scaled likewise.
        scalar_lr: AdamW, of the residual scales.
        momentum: Muon's.
        newton_schulz_steps: iterations of the orthogonalisation.
        betas: AdamW's.
        weight_decay: decoupled, on the matrices of the blocks only.
        state: what a client does with the optimizer's state between rounds.
        schedule: factor on every rate by global tokens.
    """

    matrix_lr: float = 0.02
    embedding_lr: float = 0.2
    head_lr: float = 0.004
    scalar_lr: float = 0.005
    momentum: float = 0.95
    newton_schulz_steps: int = 5
    betas: tuple[float, float] = (0.8, 0.95)
    weight_decay: float = 0.0
    state: StatePolicy = "keep"
    schedule: Schedule = field(default_factory=Trapezoid)

    def __post_init__(self) -> None:
        _check(self, "matrix_lr", "embedding_lr", "head_lr", "scalar_lr", "newton_schulz_steps")
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"optim.momentum={self.momentum} does not decay; use 0 up to, not including, 1")

    def build(self, model: GPT) -> InnerOptimizer:
        matrices, scalars = _split(model)
        width_scale = (model.config.width / REFERENCE_WIDTH) ** -0.5
        groups = [
            {"params": [model.head.weight], "lr": self.head_lr * width_scale},
            {"params": [model.embedding.weight], "lr": self.embedding_lr * width_scale},
            {"params": scalars, "lr": self.scalar_lr},
        ]
        muon = Muon(matrices, self.matrix_lr, self.momentum, self.weight_decay, self.newton_schulz_steps)
        return InnerOptimizer(muon, _adamw(groups, self.betas))


def _adamw(groups: list[dict[str, object]], betas: tuple[float, float]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=0.0, betas=(betas[0], betas[1]), eps=1e-10, weight_decay=0.0, fused=True)
