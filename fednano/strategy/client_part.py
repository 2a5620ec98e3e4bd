"""A strategy's part on its clients: a loss term, a change to the gradients, or a change to the update."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from fednano.core.tensors import State


class LocalRule:
    """A strategy's rule on one client for one task. Override the methods that the strategy needs.

    Args:
        base: θ_global, which the task starts from; on the training device while training.
        kept: tensors that the client kept from its last task, on the same device; empty at its first task and after a
            crash. They may be replaced, but not changed in place.
    """

    def __init__(self, base: State, kept: State) -> None:
        self.base = base
        self.kept = kept

    def loss(self, parameters: Mapping[str, Tensor]) -> Tensor | None:
        """A scalar to add to the inner loss of a step, or None."""
        return None

    def gradients(self, parameters: Mapping[str, Tensor]) -> None:
        """Change `.grad` of the parameters in place, between the backward pass and the inner optimizer's step."""

    def update(self, delta: State, steps: int) -> State:
        """The update to submit in place of Δ = θ_global − θ_local (on the CPU) after `steps` inner steps.

        To keep something for the next task, set `self.kept` to new tensors on the CPU.
        """
        return delta

    def weights(self, local: State, steps: int) -> State:
        """The weights to submit in place of θ_local (on the CPU), where weights are submitted and not an update.

        That is single-client mode with round.alone_merge=adopt, in which `update` is not called.
        """
        return local

    def to(self, device: torch.device | str) -> "LocalRule":
        """Move `base` and `kept` to a device: the training device, then back to the CPU for `update`."""
        self.base = {name: tensor.to(device) for name, tensor in self.base.items()}
        self.kept = {name: tensor.to(device) for name, tensor in self.kept.items()}
        return self


class ClientPart(Protocol):
    """Makes a client's rule for each task. It is built from configuration and pickled for other processes.

    The tensors that rules keep belong to the client, like its optimizer's state: they are saved with checkpoints,
    restored by `resume` and lost when the client crashes.
    """

    def begin(self, base: State, kept: State, client: str, round_: int) -> LocalRule:
        """The rule of `client` for a task of this round, which starts from the global weights `base`."""
