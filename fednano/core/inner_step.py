"""Record of an inner step, for everything that follows a run."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class InnerStep:
    """A client took step `step` (from 1) of `steps` on `tokens` tokens; `loss` in nats per token."""

    client: str
    round: int
    step: int
    steps: int
    loss: float
    tokens: int


OnStep = Callable[[InnerStep], None]
"""Called with each inner step; raises to stop the run."""
