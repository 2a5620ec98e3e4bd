"""Synchronous rounds of H local steps, one merge and one outer step: FedAvg, FedOpt, DiLoCo and their relatives."""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, get_args

import torch

from fednano.core.ranges import Range
from fednano.core.tensors import State
from fednano.strategy.base import Accumulator, ServerState, Update
from fednano.strategy.client_part import ClientPart
from fednano.strategy.dp import Gaussian
from fednano.strategy.limits import check_limits
from fednano.strategy.merging.base import Merge
from fednano.strategy.merging.mean import Mean
from fednano.strategy.outer.base import Outer
from fednano.strategy.outer.schedule import Constant, OuterSchedule
from fednano.strategy.pacing import Late, Pacing
from fednano.strategy.streaming import Streaming

MEAN, CONSTANT = Mean(), Constant()
PARTS = {
    "outer": ("step",),
    "merging": ("weighted", "keeps", "least", "because", "accumulator"),
    "schedule": ("scale",),
    "client": ("begin",),
}
"""What each part of a strategy must have; a part may be a class of one's own."""
Weighting = Literal["uniform", "tokens", "tokens_squared_per_step"]


@dataclass(frozen=True, kw_only=True)
class Synchronous:
    """Every client takes up to H inner steps from the same base; the merged pseudo-gradient feeds the outer optimizer.

    With the mean and `outer` SGD at learning rate 1 this is FedAvg (McMahan et al. 2017), with Adam FedAdam (Reddi et
    al. 2021), with Nesterov DiLoCo (Douillard et al. 2023).

    Args:
        name: its name in summaries.
        outer: the outer optimizer.
        merging: how updates become one pseudo-gradient.
        schedule: a factor on the outer learning rate by merged tokens.
        local_steps: H.
        quorum: least number of updates for a merge; with fewer, the round is skipped. It is raised to what `merging`
            needs.
        weighting: how much an update counts. tokens: a client that drained early counts by what it trained;
            tokens_squared_per_step: tokens · tokens ÷ steps, as in Decoupled DiLoCo (2604.21428); uniform: all alike;
            None: tokens, or uniform if `merging` takes no weights or there is `dp`.
        slack: a round ends after this many times its planned duration, and missing updates are given up.
        grace: see `Pacing`.
        late: see `Pacing`.
        max_staleness: see `Pacing`.
        staleness_discount: see `Pacing`.
        waits: see `Pacing`.
        needs_muon: whether the method is defined with Muon as the clients' inner optimizer.
        needs_sparse: whether to refuse a codec that is not sparse, or without error feedback.
        client: what clients do besides plain inner steps.
        dp: client-level differential privacy, under which all updates weigh alike; None: none.
        stream: which fragment of the model each merge synchronises; None: each merges the whole model.
    """

    overlaps: ClassVar[bool] = True
    name: str
    outer: Outer
    merging: Merge = MEAN
    schedule: OuterSchedule = CONSTANT
    local_steps: Annotated[int, Range(le=10**9)] = 25
    quorum: int = 1
    weighting: Weighting | None = None
    slack: Annotated[float, Range(le=math.inf)] = 1.5
    grace: Annotated[float, Range(le=math.inf)] | None = None
    late: Late = "refuse"
    max_staleness: int | None = None
    staleness_discount: bool = True
    waits: bool = True
    needs_muon: bool = False
    needs_sparse: bool = False
    client: ClientPart | None = None
    dp: Gaussian | None = None
    stream: Streaming | None = None

    def __post_init__(self) -> None:
        for key, members in PARTS.items():
            part = getattr(self, key)
            if part is not None and (missing := [name for name in members if not hasattr(part, name)]):
                raise ValueError(
                    f"strategy.{key} must have {', '.join(members)}, got {type(part).__name__} without "
                    f"{', '.join(missing)}; add what is missing"
                )
        check_limits(self.local_steps, self.quorum, self.slack)
        self._check_pacing()
        if self.weighting not in (None, *get_args(Weighting)):
            raise ValueError(
                f"strategy.weighting must be {', '.join(get_args(Weighting))} or null, got {self.weighting}; use one "
                "of them"
            )
        if not self.merging.weighted and self.weighting not in (None, "uniform"):
            raise ValueError(
                f"strategy.weighting must be uniform with strategy.merging={type(self.merging).__name__}, which takes "
                f"no weights, got {self.weighting}; use uniform, or strategy/merging=mean"
            )
        if self.dp:
            self.dp.check(self)
        object.__setattr__(self, "quorum", max(self.quorum, self.merging.least))

    def _check_pacing(self) -> None:
        if self.stream and self.stream.gamma is not None and self.grace is None:
            raise ValueError(
                f"strategy.grace must be a number with strategy.stream.gamma={self.stream.gamma}, got null; it is the "
                "longest grace, so set it, or use strategy.stream.gamma=null"
            )
        if Pacing.of(self).carries and (self.dp or not self.merging.weighted):
            other = "strategy.dp" if self.dp else f"strategy.merging={type(self.merging).__name__}"
            instead = "strategy/dp=none" if self.dp else "strategy/merging=mean"
            raise ValueError(
                f"strategy.late must be refuse with {other}, which lets no update count less than another, got "
                f"{self.late}; use strategy.late=refuse{'' if self.waits else ' strategy.waits=true'}, or {instead}"
            )

    def weight(self, update: Update) -> float:
        if self.weighting == "uniform" or self.dp or not self.merging.weighted:
            return 1.0
        if self.weighting == "tokens_squared_per_step":
            return update.tokens * (update.tokens / update.steps)
        return float(update.tokens)

    def accumulator(self, state: ServerState) -> Accumulator:
        accumulator = self.merging.accumulator(state.weights)
        return self.dp.over(accumulator, state) if self.dp else accumulator

    def merge(self, state: ServerState, pseudo_gradient: State) -> ServerState:
        scale = self.schedule.scale(state.tokens, state.horizon)
        stepped = self.outer.step(state.weights, state.outer, pseudo_gradient, scale)
        weights, outer = _weights_and_state(stepped, type(self.outer).__name__)
        return replace(state, weights=weights, outer=outer, version=state.version + 1)

    def summary(self, merges: int) -> dict[str, Any]:
        return {"privacy": self.dp.spent(merges)} if self.dp else {}


def _weights_and_state(stepped: Any, outer: str) -> tuple[State, State]:
    """What a step of the outer optimizer, which may be a class of one's own, returned. Raises ValueError if not two."""
    match stepped:
        case (dict() as weights, dict() as state) if all(map(torch.is_tensor, [*weights.values(), *state.values()])):
            return weights, state
    raise ValueError(
        f"{outer}.step must return (weights, state), two dictionaries of tensors, got {_kinds(stepped)}; correct it"
    )


def _kinds(value: Any) -> str:
    """The types of a value and of what it holds."""
    if not isinstance(value, tuple | dict):
        return type(value).__name__
    inside = list(value.values()) if isinstance(value, dict) else value
    kinds = ", ".join(dict.fromkeys(_kinds(each) for each in inside)) or "nothing"
    return f"a {type(value).__name__} of {kinds}"
