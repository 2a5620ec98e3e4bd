"""Clients that submit corrupted updates, to measure how much a merging or a guard withstands."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import torch

from fednano.core import tensors
from fednano.core.randomness import named_seed
from fednano.core.ranges import Range
from fednano.core.tensors import State
from fednano.strategy.client_part import LocalRule

Attack = Literal["sign_flip", "scale", "random"]
FACTORS: dict[Attack, float] = {"sign_flip": 1.0, "scale": 1e6, "random": 1.0}


class CorruptedRule(LocalRule):
    """Trains honestly, then submits a corrupted update, or weights to which it leads."""

    def __init__(self, base: State, kept: State, attack: Attack, factor: float, seed: int) -> None:
        super().__init__(base, kept)
        self._attack, self._factor, self._seed = attack, factor, seed

    def update(self, delta: State, steps: int) -> State:
        if self._attack != "random" or not delta:  # a run that is played through has no tensors
            factor = -self._factor if self._attack == "sign_flip" else self._factor
            return {name: tensor * factor for name, tensor in delta.items()}
        draw = torch.Generator().manual_seed(self._seed)
        noise = {name: torch.randn(tensor.shape, generator=draw) for name, tensor in delta.items()}
        length = self._factor * tensors.norm(delta) / tensors.norm(noise)
        return {name: tensor * length for name, tensor in noise.items()}

    def weights(self, local: State, steps: int) -> State:
        """Those that the corrupted update leads to."""
        return tensors.subtract(self.base, self.update(tensors.subtract(self.base, local), steps))


@dataclass(frozen=True, kw_only=True)
class Byzantine:
    """Implements `ClientPart`. Attacks as in Blanchard et al. 2017 (1703.02757), section 5, on the clients named.

    Args:
        clients: the names of those that attack; all others are honest.
        attack: what they submit in place of Δ. sign_flip: −factor · Δ; scale: factor · Δ; random: normally distributed
            noise of norm factor · ‖Δ‖.
        factor: see `attack`; None: 1, or 10⁶ with scale.
        seed: of the noise of attack=random.
    """

    clients: Sequence[str]
    attack: Attack = "sign_flip"
    factor: Annotated[float, Range(le=math.inf)] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.attack not in get_args(Attack):
            raise ValueError(
                f"strategy.client.attack must be {', '.join(get_args(Attack))}, got {self.attack}; use one of them"
            )
        if self.factor is not None and not 0.0 < self.factor < math.inf:
            raise ValueError(f"strategy.client.factor must be > 0 and finite, got {self.factor}; use 1 or null")

    def begin(self, base: State, kept: State, client: str, round_: int) -> LocalRule:
        if client not in self.clients:
            return LocalRule(base, kept)
        factor = FACTORS[self.attack] if self.factor is None else self.factor
        return CorruptedRule(base, kept, self.attack, factor, named_seed(self.seed, client, round_, "attack"))
