"""What a strategy is: pure functions from a server state and a mean pseudo-gradient to the next state."""

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from fednano.core.tensors import State


@dataclass(frozen=True)
class ServerState:
    """The global model and all that the outer optimizer remembers.

    Args:
        weights: θ, the global model.
        outer: the outer optimizer's state, names as in `weights` behind a prefix; empty before the first step.
        version: number of outer steps taken.
        inner: the clients' mean inner optimizer state, under `optim.state=average`.
    """

    weights: State
    outer: State
    version: int = 0
    inner: State = field(default_factory=dict)


class Strategy(Protocol):
    """A `strategy` choice. New ones need one file and one YAML: nothing lists them.

    `name` is what summaries call it, `local_steps` is H, `quorum` the least number of updates that a merge needs and
    `slack` the factor on a round's planned duration after which it is closed. `overlaps` says whether clients may go on
    from their local weights while an update travels (`round.overlap`).
    """

    overlaps: ClassVar[bool]
    name: str
    local_steps: int
    quorum: int
    slack: float

    def weight(self, tokens: int, steps: int) -> float:
        """Weight of an update that trained `tokens` in `steps`."""

    def merge(self, state: ServerState, mean_delta: State) -> ServerState:
        """The next state, given the weighted mean of the pseudo-gradients θ_global − θ_local."""
