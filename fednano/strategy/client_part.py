"""What a strategy does on its clients: a term in the inner loss, a change to gradients, a change to the update."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from fednano.core.tensors import State


class LocalRule:
    """One client's share in a strategy, for the length of one task. Override what the strategy needs.

    Args:
        base: θ_global, which the task starts from; on the device that trains while it does.
        kept: what the client kept of its last task, likewise; empty at its first and after a crash. It may be replaced,
            but not changed in place.
    """

    def __init__(self, base: State, kept: State) -> None:
        self.base = base
        self.kept = kept

    def loss(self, parameters: Mapping[str, Tensor]) -> Tensor | None:
        """A scalar to be added to the inner loss of a step; None for nothing."""
        return None

    def gradients(self, parameters: Mapping[str, Tensor]) -> None:
        """Change `.grad` of the parameters in place, between the backward pass and the inner optimizer's step."""

    def update(self, delta: State, steps: int) -> State:
        """What is submitted in place of Δ = θ_global − θ_local (on the CPU) after so many inner steps.

        To keep something for the next task, set `self.kept` to new tensors on the CPU.
        """
        return delta

    def to(self, device: torch.device | str) -> "LocalRule":
        """Move `base` and `kept` to a device: the one that trains, and back for `update`."""
        self.base = {name: tensor.to(device) for name, tensor in self.base.items()}
        self.kept = {name: tensor.to(device) for name, tensor in self.kept.items()}
        return self


class ClientPart(Protocol):
    """Makes a client's rule for each of its tasks. Built from configuration, and sent to other processes by pickle.

    What rules keep belongs to the client like its optimizer's state: it is saved with checkpoints, restored by
    `resume`, and gone when the client crashes.
    """

    def begin(self, base: State, kept: State) -> LocalRule:
        """The rule of a task that starts from the global weights `base`."""
