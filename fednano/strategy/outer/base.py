"""The interface of outer optimizers, and what they share."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from fednano.core.tensors import BLOCK, State


class Outer(Protocol):
    """The optimizer that steps the global model; Δ = θ_global − θ_local is its gradient."""

    def step(self, weights: State, outer: State, delta: State, scale: float = 1.0) -> tuple[State, State]:
        """New weights and new optimizer state, at `scale` times the learning rate. The arguments are not changed.

        The state is empty before the first step. Its names are those of the weights, behind a prefix if there is more
        than one tensor for each; scalars may have others.
        """


def check_lr(lr: float) -> None:
    if not lr > 0:
        raise ValueError(
            f"strategy.outer.lr must be > 0, got {lr}; use 1 for plain averaging, 0.7 for DiLoCo, 0.03 for Adam"
        )


def check_decay(key: str, value: float) -> None:
    """Raise ValueError unless `strategy.outer.KEY` is from 0 up to, but not including, 1."""
    if not 0.0 <= value < 1.0:
        raise ValueError(f"strategy.outer.{key} must be >= 0 and < 1, got {value}; use a value such as 0.9")


def blank(state: State) -> State:
    """Tensors of the same names, shapes and types, with arbitrary entries."""
    return {name: torch.empty(tensor.shape, dtype=tensor.dtype) for name, tensor in state.items()}


def in_blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The entries of equally large tensors, block by block, as flat views; those that are written must be contiguous.

    A step that goes through its tensors in blocks needs temporaries of that size only, and they stay in the cache.
    """
    flat = [tensor.detach().reshape(-1) for tensor in tensors]
    for start in range(0, flat[0].numel(), BLOCK):
        yield tuple(tensor[start : start + BLOCK] for tensor in flat)
