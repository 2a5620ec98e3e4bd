"""A strategy of Flower's own as a strategy: it aggregates what fednano's clients submit."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, Metadata, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from flwr.serverapp.strategy import Strategy as FlowerStrategy

from fednano.config.errors import one_line
from fednano.core import tensors
from fednano.core.ranges import Range
from fednano.core.tensors import State
from fednano.flower.compat.messages import LocalMessage
from fednano.flower.strategy_state import restore, saved
from fednano.strategy.base import Accumulator, ServerState, Update
from fednano.strategy.client_part import ClientPart
from fednano.strategy.limits import check_limits
from fednano.strategy.merging.base import KeepAll, KeptUpdate

INSTEAD = "use another of Flower's strategies, or one of fednano's"


class Aggregated(State):
    """The pseudo-gradient of an aggregation, together with the weights and the strategy's state that it led to."""

    def __init__(self, delta: State, weights: State, outer: State) -> None:
        super().__init__(delta)
        self.weights, self.outer = weights, outer


@dataclass(frozen=True, kw_only=True)
class Wrapped:
    """Implements `Strategy` by one of `flwr.serverapp.strategy`, which aggregates all updates of a round at once.

    For every update it gets a train reply with the client's weights θ_global − Δ, and the tokens as its examples. The
    replies are ordered by client, so that the result does not depend on the order of arrival. What it keeps between
    rounds, such as the moments of FedAdam, is in the outer state: each merge starts from a fresh copy of the strategy
    and that state. It samples no clients; whoever is up takes part.

    Args:
        wrapped: the strategy; it derives from Flower's FedAvg.
        name: its name in summaries.
        local_steps: H.
        quorum: least number of updates for a merge; with fewer, the round is skipped.
        weighting: the number of examples that it is told of each update: its tokens, or 1 under uniform.
        slack: a round ends after this many times its planned duration, and missing updates are given up.
        client: what clients do besides plain inner steps.

    Raises:
        ValueError: a value out of range, or a strategy that needs what fednano does not do. This is found out by a
            merge on trial.
    """

    overlaps: ClassVar[bool] = True
    wrapped: FlowerStrategy
    name: str = "flower"
    local_steps: Annotated[int, Range(le=10**9)] = 25
    quorum: int = 1
    weighting: Literal["tokens", "uniform"] = "tokens"
    slack: Annotated[float, Range(le=math.inf)] = 1.5
    client: ClientPart | None = None

    def __post_init__(self) -> None:
        check_limits(self.local_steps, self.quorum, self.slack)
        if self.weighting not in ("tokens", "uniform"):
            raise ValueError(f"strategy.weighting must be tokens or uniform, got {self.weighting}; use one of them")
        name = type(self.wrapped).__name__
        if not isinstance(self.wrapped, FedAvg):
            raise ValueError(
                f"strategy.wrapped must derive from Flower's FedAvg, got {name}, which needs more of clients than "
                f"their updates; {INSTEAD}, or strategy/dp=gaussian for differential privacy"
            )
        try:
            self._try_out()
        except Exception as error:  # whatever a strategy of theirs raises
            raise ValueError(
                f"strategy.wrapped must aggregate weights and examples alone, got {name}, which fails on trial with "
                f"strategy.quorum={self.quorum} updates ({one_line(error)}); {INSTEAD}"
            ) from error

    def weight(self, update: Update) -> float:
        return float(update.tokens) if self.weighting == "tokens" else 1.0

    def accumulator(self, state: ServerState) -> Accumulator:
        return KeepAll(state.weights, lambda kept: self._aggregated(state, kept))

    def merge(self, state: ServerState, pseudo_gradient: State) -> ServerState:
        if isinstance(pseudo_gradient, Aggregated):
            state = replace(state, weights=pseudo_gradient.weights, outer=pseudo_gradient.outer)
        return replace(state, version=state.version + 1)

    def _aggregated(self, state: ServerState, updates: Sequence[KeptUpdate]) -> State:
        """The result of the wrapped strategy for these updates; empty if nothing is trained."""
        if not state.weights:
            return {}
        strategy, config = deepcopy(self.wrapped), ConfigRecord()
        restore(strategy, state.outer)
        with _silent():
            _configure(strategy, state, config)
            replies = [self._reply(strategy, state, *update) for update in updates]
            arrays, _ = strategy.aggregate_train(state.version + 1, replies)
        if config:
            raise ValueError(f"it tells clients {', '.join(config)}, and fednano's clients take no such instructions")
        if arrays is None:
            raise ValueError("it returns no arrays, which may be for want of updates")
        weights = {name: _like(name, tensor, arrays) for name, tensor in state.weights.items()}
        return Aggregated(tensors.subtract(state.weights, weights), weights, saved(strategy, self.wrapped))

    def _reply(self, strategy: FlowerStrategy, state: ServerState, update: Update, delta: State) -> Message:
        """What a client of Flower's would have sent."""
        assert isinstance(strategy, FedAvg)
        local = {name: state.weights[name].float() - delta[name] for name in sorted(delta)}
        examples = MetricRecord({strategy.weighted_by_key: self.weight(update)})
        content = RecordDict({strategy.arrayrecord_key: _record(local), "metrics": examples})
        metadata = Metadata(1, "", 2, 1, "", str(state.version), 0.0, math.inf, "train")
        return LocalMessage(content, metadata)

    def _try_out(self) -> None:
        """Merge made-up updates twice, the second time from the first one's state. Raises whatever is wrong."""
        state = ServerState(weights={"w": torch.ones(2, 3), "v": torch.ones(1)})
        for count in (self.quorum, self.quorum + 2):
            updates = []
            for i in range(count):
                update = Update(client=str(i), tokens=8 + i, steps=1, version=state.version, staleness=0)
                updates.append(KeptUpdate(update, {name: w * 0.1 * (i + 1) for name, w in state.weights.items()}))
            merged, again = (self.merge(state, self._aggregated(state, updates)) for _ in range(2))
            for one, other in ((merged.weights, again.weights), (merged.outer, again.outer)):
                if tensors.digest(one) != tensors.digest(other):
                    raise ValueError("it gives different results for the same updates")
            state = merged


def _configure(strategy: FlowerStrategy, state: ServerState, config: ConfigRecord) -> None:
    """Tell the strategy the weights that clients were sent, without having it sample clients."""
    assert isinstance(strategy, FedAvg)
    fraction, strategy.fraction_train = strategy.fraction_train, 0.0
    arrays = _record({name: state.weights[name] for name in sorted(state.weights)})
    # With a fraction of 0 FedAvg selects nobody, and what derives from it prepares itself all the same.
    list(strategy.configure_train(state.version + 1, arrays, config, cast(Grid, None)))
    strategy.fraction_train = fraction


def _record(state: State) -> ArrayRecord:
    return ArrayRecord({name: Array(tensor.contiguous().numpy()) for name, tensor in state.items()})


def _like(name: str, tensor: torch.Tensor, arrays: ArrayRecord) -> torch.Tensor:
    """The array of this name, in the type of a tensor whose shape it must have."""
    array: Any = arrays[name].numpy() if name in arrays else None
    if array is None or array.shape != tuple(tensor.shape):
        found = "nothing" if array is None else array.shape
        raise ValueError(f"it returns {found} for {name} of {tuple(tensor.shape)}")
    return torch.from_numpy(np.array(array)).to(tensor.dtype)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep Flower from logging how many results it received, which fednano's events tell."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
