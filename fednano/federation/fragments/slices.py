"""The accumulators of one merge: one for the whole model, or one for each fragment that updates come for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fednano.core import tensors
from fednano.core.tensors import Shapes, State
from fednano.federation.fragments.holdings import Holdings
from fednano.strategy.base import Accumulator, ServerState, Strategy
from fednano.strategy.streaming import Fragments, Streaming
from fednano.training.streaming import StreamTask


@dataclass(frozen=True, kw_only=True)
class Slices:
    """The global model as a strategy sees it when it merges one fragment: that fragment, as if there were no other.

    Args:
        fragments: the fragments of the model; None: a strategy merges it whole, and there is a fragment 0 only.
        holdings: which of them the clients hold, kept up to date; None if the model is merged whole.
        streaming: what the strategy says of fragments; None likewise.
    """

    fragments: Fragments | None = None
    holdings: Holdings | None = None
    streaming: Streaming | None = None

    @classmethod
    def of(cls, strategy: Strategy, state: ServerState, record: Mapping[str, Any]) -> "Slices":
        """Those of a strategy. The `record` is one of holdings; empty: no client holds anything."""
        if (streaming := Streaming.of(strategy)) is None:
            return cls()
        split = Fragments.split(tensors.shapes(state.weights), streaming.fragments)
        return cls(fragments=split, holdings=Holdings.of(streaming.fragments, record), streaming=streaming)

    @property
    def count(self) -> int:
        return len(self.fragments.names) if self.fragments else 1

    def weights(self, weights: State, index: int) -> State:
        return self.fragments.of(weights, index) if self.fragments and weights else weights

    def shapes(self, weights: State, index: int) -> Shapes:
        """The names and shapes of an update of the fragment."""
        return tensors.shapes(self.weights(weights, index))

    def cut(self, state: ServerState, index: int) -> ServerState:
        """The state of one fragment; the outer optimizer's is kept apart for each, under a prefix."""
        if self.fragments is None:
            return state
        prefix = _prefix(index)
        outer = {name.removeprefix(prefix): held for name, held in state.outer.items() if name.startswith(prefix)}
        return replace(state, weights=self.weights(state.weights, index), outer=outer)

    def joined(self, state: ServerState, part: ServerState, index: int) -> ServerState:
        """The state with one fragment replaced by what a merge made of it."""
        if self.fragments is None:
            return part
        prefix = _prefix(index)
        others = {name: held for name, held in state.outer.items() if not name.startswith(prefix)}
        mine = {prefix + name: held for name, held in part.outer.items()}
        return replace(part, weights={**state.weights, **part.weights}, outer={**others, **mine})

    def task(self, client: str, round_: int, in_step: bool, state: ServerState) -> StreamTask | None:
        """What a task says of fragments. Due is its round's if clients go `in_step`, or else the client's next."""
        if self.holdings is None:
            return None
        due = round_ % self.count if in_step else self.holdings.next(client, round_ % self.count)
        return self.holdings.give(client, due, checked=bool(state.weights))

    def trained(self, client: str, index: int, tokens: int, steps: int) -> tuple[int, int]:
        """Note the work of an accepted update; returns the (tokens, steps) that its Δ is of."""
        return self.holdings.trained(client, index, tokens, steps) if self.holdings else (tokens, steps)

    def grace(self, grace: float | None, local_steps: int) -> float | None:
        """Seconds for which a round that begins now goes on once it has its quorum; at most `grace`."""
        streaming, holdings = self.streaming, self.holdings
        if grace is None or streaming is None or holdings is None or streaming.gamma is None:
            return grace
        return holdings.averages.window(streaming.gamma, streaming.overlap(local_steps), grace)

    def forget(self, client: str, trained_on: bool = False) -> None:
        """Have a client begin anew, if clients keep weights of their own; see `Holdings.forget`."""
        if self.holdings:
            self.holdings.forget(client, trained_on)


def _prefix(index: int) -> str:
    return f"fragment{index}/"


@dataclass(frozen=True)
class Accumulators:
    """Those of one round, by fragment; each is made when the first update comes.

    Args:
        make: makes the accumulator of a fragment.
    """

    make: Callable[[int], Accumulator]
    _made: dict[int, Accumulator] = field(default_factory=dict)

    @classmethod
    def of(cls, strategy: Strategy, state: ServerState, slices: Slices) -> "Accumulators":
        """For the merge onto `state`."""
        return cls(lambda index: strategy.accumulator(slices.cut(state, index)))

    def __getitem__(self, index: int) -> Accumulator:
        if index not in self._made:
            self._made[index] = self.make(index)
        return self._made[index]

    def take(self, index: int) -> State:
        """The pseudo-gradient of a fragment that updates came for; it begins anew afterwards."""
        return self._made.pop(index).result()
