"""FedProx's part on clients: a proximal term that draws inner steps towards the global model."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from fednano.core.ranges import Range
from fednano.core.tensors import State
from fednano.strategy.client_part import LocalRule


class ProximalRule(LocalRule):
    """Minimises the inner loss + μ/2 ‖θ − θ_global‖² over the parameters.

    The term's gradient, μ(θ − θ_global), is added to `.grad`. That spares the backward pass a graph over all
    parameters, and keeps the reported loss a cross-entropy. Parameters without a gradient are not stepped anyway.
    """

    def __init__(self, base: State, kept: State, mu: float) -> None:
        super().__init__(base, kept)
        self._mu = mu

    @torch.no_grad()
    def gradients(self, parameters: Mapping[str, Tensor]) -> None:
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                parameter.grad.add_(parameter - self.base[name], alpha=self._mu)


@dataclass(frozen=True, kw_only=True)
class Proximal:
    """Implements `ClientPart`. Source: Li et al. 2020 (1812.06127), equation 2.

    Args:
        mu: μ, the weight of the proximal term; 0: plain inner steps.
    """

    mu: Annotated[float, Range(le=math.inf)] = 0.01

    def __post_init__(self) -> None:
        if not 0.0 <= self.mu < math.inf:
            raise ValueError(f"strategy.client.mu must be >= 0 and finite, got {self.mu}; about 0.01 is usual")

    def begin(self, base: State, kept: State, client: str, round_: int) -> LocalRule:
        return ProximalRule(base, kept, self.mu) if self.mu else LocalRule(base, kept)
