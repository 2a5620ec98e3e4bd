"""Guards: how long an update may be before it is refused or clipped."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, Protocol

LEAST = 8  # accepted norms below which their median says too little
FLOOR = 0.01  # of the global model's norm: an update that short does little harm, however short others were
STATE_SLACK = 10.0  # gradients, and so an optimizer's state, vary more than updates do

Length = tuple[float, int]
"""The norm of an accepted update, and its inner steps."""


class Guard(Protocol):
    """A `guard` choice.

    Attributes:
        action: what happens to an update beyond the limit: refuse it, or clip it to the limit.
        window: how many of the last accepted norms `limit` is given.
    """

    @property
    def action(self) -> Literal["refuse", "clip"]: ...

    @property
    def window(self) -> int: ...

    def limit(self, accepted: Sequence[Length], steps: int, model_norm: Callable[[], float]) -> float:
        """The longest norm of an update of `steps` inner steps; infinite if there is no limit.

        `accepted` are the last accepted updates, oldest first; `model_norm` computes the norm of the global model.
        """

    def state_limit(self, accepted: Sequence[float], model_norm: Callable[[], float]) -> float:
        """The longest norm of a client's optimizer state (`optim.state=average`); infinite if there is no limit."""


@dataclass(frozen=True)
class Unguarded:
    """Sets no limit.

    Args:
        action: of no effect, as no update is beyond a limit.
        window: of no effect, as no norms are kept.
    """

    action: Literal["refuse", "clip"] = "refuse"
    window: int = 0

    def limit(self, accepted: Sequence[Length], steps: int, model_norm: Callable[[], float]) -> float:
        return math.inf

    def state_limit(self, accepted: Sequence[float], model_norm: Callable[[], float]) -> float:
        return math.inf


@dataclass(frozen=True, kw_only=True)
class NormGuard:
    """Limits norms by a fixed bound, and by a multiple of the median of the norms accepted before.

    A median cannot be moved far by clients that are in the minority. It needs some updates, so before the first
    `LEAST` of them the limit is the same multiple of the norm of the global model, which honest updates stay below. An
    update grows with its steps, at least with their square root and at most in proportion, so each accepted norm is
    first scaled to the steps at hand by the more generous of the two. Updates below `FLOOR` of the model's norm always
    pass, so that a learning rate that begins near 0 does not shut out all later updates.

    Source: norm clipping (Sun et al. 2019, 1911.07963), with an adaptive bound as in Andrew et al. 2021 (1905.03871).

    Args:
        action: refuse or clip an update beyond the limit.
        bound: fixed limit of the Euclidean norm over all tensors; None: no fixed limit.
        multiple: factor on the median; None: no such limit.
        window: number of accepted updates whose median is taken; before the eighth, the limit is `multiple` times the
            global model's norm.
    """

    action: Literal["refuse", "clip"] = "refuse"
    bound: float | None = None
    multiple: float | None = 10.0
    window: int = 64

    def __post_init__(self) -> None:
        if self.bound is None and self.multiple is None:
            raise ValueError("guard.bound or guard.multiple must be set, got null for both; set one or use guard=none")
        if self.bound is not None and not 0.0 < self.bound < math.inf:
            raise ValueError(f"guard.bound must be > 0, got {self.bound}; use a norm, or null for no fixed bound")
        if self.multiple is not None and not 1.0 < self.multiple < math.inf:
            raise ValueError(f"guard.multiple must be > 1, got {self.multiple}; use a factor such as 10, or null")
        if self.window < LEAST:
            raise ValueError(f"guard.window must be >= {LEAST}, got {self.window}; use {LEAST} or more updates")

    def limit(self, accepted: Sequence[Length], steps: int, model_norm: Callable[[], float]) -> float:
        fixed = math.inf if self.bound is None else self.bound
        if self.multiple is None:
            return fixed
        if len(accepted) < LEAST:
            return min(fixed, self.multiple * model_norm())
        usual = median(norm * _growth(steps / own) for norm, own in accepted[-self.window :])
        return min(fixed, max(self.multiple * usual, FLOOR * model_norm()))

    def state_limit(self, accepted: Sequence[float], model_norm: Callable[[], float]) -> float:
        if self.multiple is None:
            return math.inf
        usual = model_norm() if len(accepted) < LEAST else median(accepted[-self.window :])
        return STATE_SLACK * self.multiple * usual


def _growth(ratio: float) -> float:
    """How much longer an update of `ratio` times as many steps may be."""
    return max(ratio, math.sqrt(ratio))
