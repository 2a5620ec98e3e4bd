"""FedProx (Li et al. 2020, 1812.06127): a proximal term keeps clients near the global model."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fednano.core.tensors import State
from fednano.strategy.client_part import LocalRule
from fednano.strategy.diloco import DiLoCo


class ProximalRule(LocalRule):
    """Adds μ/2 ‖θ − θ_global‖² to the inner loss of one task."""

    def __init__(self, base: State, kept: State, mu: float) -> None:
        super().__init__(base, kept)
        self._mu = mu

    def loss(self, parameters: Mapping[str, Tensor]) -> Tensor:
        distances = [(parameter - self.base[name]).square().sum() for name, parameter in parameters.items()]
        return 0.5 * self._mu * torch.stack(distances).sum()


@dataclass(frozen=True)
class Proximal:
    """What FedProx does on a client."""

    mu: float

    def begin(self, base: State, kept: State) -> LocalRule:
        return ProximalRule(base, kept, self.mu)


@dataclass(frozen=True, kw_only=True)
class FedProx(DiLoCo):
    """Args:
    mu: weight of the proximal term; 0 is plain training.
    """

    mu: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mu >= 0:
            raise ValueError(f"strategy.mu must be 0 or more, got {self.mu}; about 0.01 is usual")
        object.__setattr__(self, "client", Proximal(self.mu))
