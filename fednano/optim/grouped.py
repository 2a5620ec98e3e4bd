"""Optimizers of groups of parameters: the base class, and AdamW.

torch.optim.Optimizer imports torch's compiler when it is made, also where nothing is compiled. That would add about two
seconds to the start of every process that trains.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw


class Grouped(ABC):
    """Groups of parameters, as in torch.optim.Optimizer; a subclass has a method `step`.

    Args:
        groups: each with its parameters under "params", and its own values for any of the settings.
        settings: "lr" and whatever else the subclass reads, for groups without a value of their own.
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
        self.param_groups: list[dict[str, Any]] = [
            {**settings, **group, "params": list(group["params"])} for group in groups
        ]
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    @abstractmethod
    def step(self) -> None:
        """Apply the gradients. Parameters without one stay as they are."""

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


class FusedAdamW(Grouped):
    """AdamW (Loshchilov and Hutter 2019) by torch's fused kernel: bit for bit torch.optim.AdamW(…, fused=True).

    Its settings are "lr", "betas", "weight_decay" and "eps".
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]]) -> None:
        super().__init__(groups, {"lr": 0.0, "betas": (0.9, 0.999), "weight_decay": 0.0, "eps": 1e-10})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            states = [self._kept(parameter) for parameter in parameters]
            beta1, beta2 = group["betas"]
            adamw(
                parameters,
                [parameter.grad for parameter in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=beta1,
                beta2=beta2,
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )

    def _kept(self, parameter: Tensor) -> dict[str, Tensor]:
        """The state of a parameter: the number of steps (float32, as the kernel wants it) and both moments."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return state
