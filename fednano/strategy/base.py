"""What a strategy is: when updates are merged, what each counts, how they become one, which outer step follows."""

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from fednano.core.tensors import State
from fednano.strategy.client_part import ClientPart


@dataclass(frozen=True)
class ServerState:
    """The global model and all that the outer optimizer remembers.

    Args:
        weights: θ, the global model; empty where nothing is trained (`runtime.compute=analytic`, planning).
        outer: the outer optimizer's state, names as in `weights` behind a prefix; empty before the first step.
        version: number of outer steps taken.
        inner: the clients' mean inner optimizer state, under `optim.state=average`.
    """

    weights: State
    outer: State
    version: int = 0
    inner: State = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Update:
    """What is known of an update beside its tensors.

    Args:
        client: who trained it.
        tokens: how many it trained.
        steps: inner steps that it took.
        version: of the global model that it started from.
        staleness: outer steps that the global model has taken since then; 0 in synchronous rounds.
    """

    client: str
    tokens: int
    steps: int
    version: int
    staleness: int


class Accumulator(Protocol):
    """Where the updates of one merge go, one at a time, in the order of their arrival.

    Only updates that passed every check get here: same names and shapes as the global model, all numbers finite.
    """

    def add(self, delta: State, weight: float, update: Update) -> None:
        """Take in Δ = θ_global − θ_local of one update. The tensors are the accumulator's to keep."""

    def result(self) -> State:
        """The pseudo-gradient of all updates, float32; asked for once."""


class Strategy(Protocol):
    """A `strategy` choice. New ones need one class and one YAML file, anywhere: nothing lists them.

    A strategy is created from its configuration alone, without tensors, and is asked for rounds in which nothing is
    trained as well: the run is planned by playing it through without a model. Every `State` is empty then.

    Attributes:
        overlaps: whether clients may train on from their local weights while an update travels (`round.overlap`).
        name: what summaries call it.
        local_steps: H.
        quorum: the least number of updates that a merge needs; with fewer the round is skipped and its rows are free.
        slack: the factor on a round's planned duration after which it is closed and what is missing is given up.
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

    def accumulator(self, like: State) -> Accumulator:
        """A place for the updates of one merge; `like` has the names and shapes of the global model."""

    def merge(self, state: ServerState, pseudo_gradient: State) -> ServerState:
        """The outer step: the next state, its version one higher. `state` is left as it is."""
