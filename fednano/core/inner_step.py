"""An inner step, as everyone hears of it who follows a run."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class InnerStep:
    """A client has taken step `step` of `steps`, from 1, on `tokens` tokens; `loss` in nats per token."""

    client: str
    round: int
    step: int
    steps: int
    loss: float
    tokens: int


OnStep = Callable[[InnerStep], None]
"""Told of each inner step; raises to stop the run."""
