"""The reference figures of another implementation, and the weights and batch that they were made with."""

import json
from dataclasses import replace
from typing import Any

import torch
from support.paths import FIXTURES
from torch import Tensor

from fednano.model.arch import Arch
from fednano.model.gpt import GPT, GPTConfig
from fednano.optim.inner import InnerOptimizer


def fixture(name: str) -> dict[str, Any]:
    """The figures of `forward` or `optimizer`."""
    return json.loads((FIXTURES / f"reference_{name}.json").read_text())


def role_of(name: str) -> str:
    """The reference's role name of one of our parameters."""
    return name.replace("blocks.", "block.").removesuffix(".weight")


def fill(model: GPT) -> None:
    """The reference's rule: offset-free sine of the flat index, its phase from the role's characters."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            role = role_of(name)
            phase = sum(map(ord, role)) % 97
            scale = 1.0 if role == "embedding" else 0.25 if parameter.dim() >= 2 else 0.3
            offset = {"resid_lambdas": 1.0}.get(role, 0.0)
            index = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.copy_((offset + scale * torch.sin(0.7 * index + phase)).float().view(parameter.shape))


def reference_model(shape: dict[str, Any], arch: Arch) -> GPT:
    """A model of the reference's shape, filled by its rule."""
    config = GPTConfig(
        vocab_size=shape["vocab_size"],
        sequence_len=shape["sequence_len"],
        layers=shape["n_layer"],
        width=shape["n_embd"],
        heads=shape["n_head"],
        kv_heads=shape["n_kv_head"],
        arch=replace(arch, window_pattern=shape["window_pattern"]),
    )
    model = GPT(config)
    fill(model)
    return model


def reference_batch(config: GPTConfig, rows: int) -> tuple[Tensor, Tensor]:
    """Tokens and targets, each (rows, T) int64."""
    n = torch.arange(rows * config.sequence_len).view(rows, -1)
    return (17 * n + 5) % config.vocab_size, (29 * n + 11) % config.vocab_size


def optimizer_losses(model: GPT, optimizer: InnerOptimizer, tokens: Tensor, targets: Tensor) -> list[float]:
    """The losses before each of the optimizer fixture's five steps on one batch."""
    losses = []
    for _ in range(5):
        loss = model(tokens, targets)
        losses.append(loss.item())
        loss.backward()
        optimizer.step(1.0)
    return losses
