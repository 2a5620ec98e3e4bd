"""The strategy interface: when updates are merged, their weights, their accumulation and the outer step."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from fednano.core.tensors import State
from fednano.strategy.client_part import ClientPart


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """The global model and the state of the outer optimizer.

    Args:
        weights: θ, the global model; empty if nothing is trained (`runtime.compute=analytic`, planning).
        outer: the outer optimizer's state; empty before the first step. Names are those of `weights`, behind a prefix
            if there is more than one tensor for each.
        version: number of outer steps taken.
        inner: the clients' mean inner optimizer state, under `optim.state=average`.
        tokens: tokens merged so far; a schedule of the outer learning rate follows them.
        horizon: tokens at which schedules end; 0 if unknown.
    """

    weights: State = field(default_factory=dict)
    outer: State = field(default_factory=dict)
    version: int = 0
    inner: State = field(default_factory=dict)
    tokens: int = 0
    horizon: int = 0


@dataclass(frozen=True, kw_only=True)
class Update:
    """An update without its tensors.

    Args:
        client: the client that trained it.
        tokens: number of tokens trained.
        steps: number of inner steps taken.
        version: version of the global model that it started from.
        staleness: outer steps of the global model since that version; 0 in synchronous rounds.
    """

    client: str
    tokens: int
    steps: int
    version: int
    staleness: int


class Accumulator(Protocol):
    """Accumulates the updates of one merge, one at a time, in order of arrival.

    Only updates that passed every check get here: same names and shapes as the global model, all numbers finite.
    """

    def add(self, delta: Mapping[str, Tensor], weight: float, update: Update) -> None:
        """Accumulate Δ = θ_global − θ_local of one update.

        `fednano.core.tensors.blocks(delta)` goes through it without building its tensors, which are decoded on the way.
        `dict(delta)` builds them; the accumulator may keep those.
        """

    def result(self) -> State:
        """The pseudo-gradient of all updates, float32; called once."""


class Strategy(Protocol):
    """A `strategy` choice. New ones need one class and one YAML file, anywhere: nothing lists them.

    A strategy is created from its configuration alone, without tensors. It is also called for rounds in which nothing
    is trained, since the run is planned by simulating it without a model. Every `State` is then empty.

    Attributes:
        overlaps: whether clients may take overlapped steps while an update travels (`round.overlap`).
        name: its name in summaries.
        local_steps: H.
        quorum: the least number of updates that a merge needs; with fewer, the round is skipped and its rows are freed.
        slack: the factor on a round's planned duration after which it closes and missing updates are given up.
        client: what the strategy does on its clients; None for plain inner steps.
    """

    overlaps: ClassVar[bool]
    name: str
    local_steps: int
    quorum: int
    slack: float

    @property
    def client(self) -> ClientPart | None: ...

    def weight(self, update: Update) -> float:
        """How much an update counts; above 0."""

    def accumulator(self, state: ServerState) -> Accumulator:
        """An accumulator for the merge onto `state`; its result has the names and shapes of `state.weights`."""

    def merge(self, state: ServerState, pseudo_gradient: State) -> ServerState:
        """The outer step: the next state, with its version one higher. `state` is not changed."""


@runtime_checkable
class Summarized(Protocol):
    """What a strategy may offer besides: figures of its own for the summary of a run."""

    def summary(self, merges: int) -> dict[str, Any]:
        """The figures after so many merges, for summary.json.

        It is called with 0 before anything runs too. Raises ValueError if they cannot be computed on this machine.
        """


def summarized(strategy: Strategy, merges: int) -> dict[str, Any]:
    """The strategy's own figures after so many merges; empty if it has none."""
    return strategy.summary(merges) if isinstance(strategy, Summarized) else {}
