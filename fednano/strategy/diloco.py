"""Synchronous rounds of H local steps and one outer step: DiLoCo, with FedAvg as a special case."""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from fednano.core.ranges import Range
from fednano.core.tensors import State
from fednano.strategy.base import Accumulator, ServerState, Update
from fednano.strategy.client_part import ClientPart
from fednano.strategy.dp import Gaussian
from fednano.strategy.mean import WeightedMean
from fednano.strategy.outer import Outer


@dataclass(frozen=True, kw_only=True)
class DiLoCo:
    """Every client takes up to H inner steps from the same base; the mean pseudo-gradient feeds the outer optimizer.

    With `outer` SGD at learning rate 1 this is FedAvg. Source: Douillard et al. 2023 (2311.08105).

    Args:
        name: its name in summaries.
        outer: the outer optimizer.
        local_steps: H.
        quorum: least number of updates for a merge; with fewer, the round is skipped.
        weighting: tokens (a client that drained early counts by what it trained) or uniform (as in the paper).
        slack: factor on a round's planned duration after which it closes and missing updates are given up.
        client: what clients do besides plain inner steps.
        dp: client-level differential privacy; None: none.
    """

    overlaps: ClassVar[bool] = True
    name: str
    outer: Outer
    local_steps: Annotated[int, Range(le=10**9)] = 25
    quorum: int = 1
    weighting: Literal["tokens", "uniform"] = "tokens"
    slack: Annotated[float, Range(le=math.inf)] = 1.5
    client: ClientPart | None = None
    dp: Gaussian | None = None

    def __post_init__(self) -> None:
        if self.local_steps < 1:
            raise ValueError(
                f"strategy.local_steps must be >= 1, got {self.local_steps}; use 1 or more inner steps per round"
            )
        if self.quorum < 1:
            raise ValueError(f"strategy.quorum must be >= 1, got {self.quorum}; use 1 or more updates")
        if self.weighting not in ("tokens", "uniform"):
            raise ValueError(f"strategy.weighting must be tokens or uniform, got {self.weighting}; use one of them")
        if not self.slack >= 1.0:
            raise ValueError(f"strategy.slack must be >= 1, got {self.slack}; use 1 or more, so that rounds can finish")
        if self.dp:
            self.dp.check(self)

    def weight(self, update: Update) -> float:
        return float(update.tokens) if self.weighting == "tokens" else 1.0

    def accumulator(self, state: ServerState) -> Accumulator:
        mean = WeightedMean(state.weights)
        return self.dp.over(mean, state) if self.dp else mean

    def merge(self, state: ServerState, pseudo_gradient: State) -> ServerState:
        weights, outer = self.outer.step(state.weights, state.outer, pseudo_gradient)
        return replace(state, weights=weights, outer=outer, version=state.version + 1)

    def summary(self, merges: int) -> dict[str, Any]:
        return {"privacy": self.dp.spent(merges)} if self.dp else {}
