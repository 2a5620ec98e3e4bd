"""FedDyn (Acar et al. 2021, 2111.04263): clients correct the drift towards the optimum of their own data."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fednano.core.tensors import State
from fednano.strategy.client_part import LocalRule


class DynamicRule(LocalRule):
    """Minimises the inner loss − ⟨g, θ⟩ + α/2 ‖θ − θ_global‖² in one task. The client keeps g: g ← g + αΔ."""

    def __init__(self, base: State, kept: State, alpha: float) -> None:
        super().__init__(base, kept)
        self._alpha = alpha

    @torch.no_grad()
    def gradients(self, parameters: Mapping[str, Tensor]) -> None:
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                parameter.grad.add_(parameter - self.base[name], alpha=self._alpha)
                if name in self.kept:
                    parameter.grad.sub_(self.kept[name])

    def update(self, delta: State, steps: int) -> State:
        self.kept = {name: self.kept.get(name, 0.0) + self._alpha * tensor for name, tensor in delta.items()}
        return delta


@dataclass(frozen=True, kw_only=True)
class Dynamic:
    """What FedDyn does on a client.

    Args:
        alpha: α; the smaller it is, the farther clients go in a round.
    """

    alpha: float = 0.1

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ValueError(f"strategy.client.alpha must be above 0, got {self.alpha}; about 0.1 is usual")

    def begin(self, base: State, kept: State, client: str, round_: int) -> LocalRule:
        return DynamicRule(base, kept, self.alpha)


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """What FedDyn does on the server: u ← u + pΔ; θ ← θ − Δ − u, Δ being the mean update; a schedule scales it.

    Args:
        share: p, the share of the clients that take part in a round.
    """

    share: float = 1.0

    def step(self, weights: State, outer: State, delta: State, scale: float = 1.0) -> tuple[State, State]:
        sums = {name: outer.get(name, 0.0) + self.share * tensor for name, tensor in delta.items()}
        return {name: tensor - scale * (delta[name] + sums[name]) for name, tensor in weights.items()}, sums
