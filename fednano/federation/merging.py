"""The end of a round: merging updates and settling their rows, or skipping the round."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from fednano.core import tensors
from fednano.core.clock import Clock, wall
from fednano.core.events import Event, RoundMerged, RoundSkipped, UpdateFolded
from fednano.core.tensors import State
from fednano.federation.fragments.slices import Slices
from fednano.federation.leases import Leases
from fednano.federation.plan import Plan, Round
from fednano.strategy.base import ServerState, Strategy
from fednano.training.recorder import RunProgress


@dataclass(kw_only=True)
class Merging:
    """Closes the rounds of one federation. `progress` is kept up to date; `since` is when the last one ended."""

    strategy: Strategy
    slices: Slices
    plan: Plan
    leases: Leases
    clock: Clock
    progress: RunProgress
    emit: Callable[[Event], None]
    since: float = field(default_factory=wall)

    def close(self, round_: Round, state: ServerState) -> ServerState:
        """The state after a round; below the quorum, the unchanged state, and the rows are freed.

        Where work outlives a round, a round merges whatever it has: the rest comes later anyway. Updates of fragments
        that still lack their quorum, while others have it, stay in the round.
        """
        accumulated = round_.accumulated
        if len(accumulated) < (1 if round_.carries else self.strategy.quorum):
            for update in accumulated:
                self.leases.release(update.lease, "skipped")
            few = f"{len(accumulated)} update{' is' if len(accumulated) == 1 else 's are'}"
            reason = f"{few} below the quorum of {self.strategy.quorum}"
            self.emit(RoundSkipped(t=self.clock.now(), round=round_.index, updates=len(accumulated), reason=reason))
            round_.accumulated = []
            return state
        merged, lengths = state, []
        for fragment in (due := round_.due()):
            pseudo_gradient = round_.accumulators.take(fragment)
            part = self.slices.cut(merged, fragment)
            self._check(pseudo_gradient, part.weights, f"the result of {type(self.strategy).__name__}'s accumulator")
            lengths.append(tensors.norm(pseudo_gradient) if pseudo_gradient else math.nan)
            if round_.adopted is None:
                merged = self.slices.joined(merged, self._stepped(part, pseudo_gradient), fragment)
            if self.slices.holdings:
                self.slices.holdings.versions[fragment] = state.version + 1
        if round_.adopted is not None:
            merged = replace(state, weights=round_.adopted)
        merged = replace(merged, version=state.version + 1, inner=round_.inner.result())
        if self.slices.holdings and round_.quorum_s is not None:
            self.slices.holdings.averages.reached(round_.quorum_s)
        updates = [update for update in accumulated if (update.fragment or 0) in due]
        for update in updates:
            self.leases.settle(update)
        round_.accumulated = [update for update in accumulated if (update.fragment or 0) not in due]
        for fragment in due:
            del round_.counts[fragment]
        self.emit(self._merged(round_.index, updates, merged, math.hypot(*lengths)))
        return merged

    def _stepped(self, part: ServerState, pseudo_gradient: State) -> ServerState:
        """The state after the outer step, checked."""
        stepped = self.strategy.merge(part, pseudo_gradient)
        outer = getattr(self.strategy, "outer", None)
        whose = f"{type(self.strategy).__name__}.merge{f' with {type(outer).__name__}' if outer else ''}"
        if not isinstance(stepped, ServerState):
            raise ValueError(f"{whose} must return a ServerState, got {type(stepped).__name__}; correct it")
        self._check(stepped.weights, part.weights, f"the weights that {whose} returns")
        return stepped

    @staticmethod
    def _check(found: State, weights: State, what: str) -> None:
        """Raise ValueError if these are other tensors than the global model has."""
        if wrong := tensors.unlike(found, weights):
            raise ValueError(f"{what} must be tensors like those of the global model, got {wrong}; correct it")

    def _merged(
        self, round_: int, accumulated: Sequence[UpdateFolded], state: ServerState, length: float
    ) -> RoundMerged:
        progress = self.progress
        tokens = sum(update.tokens for update in accumulated)
        scale = self.plan.lr_scale(progress.tokens, self.plan.horizon) if state.weights else math.nan
        progress.tokens += tokens
        progress.steps += sum(update.steps for update in accumulated)
        progress.train_loss = sum(update.train_loss * update.tokens for update in accumulated) / tokens
        since, self.since = self.since, wall()
        return RoundMerged(
            t=self.clock.now(),
            round=round_,
            version=state.version,
            leases=tuple(update.lease for update in accumulated),
            steps=sum(update.steps for update in accumulated),
            tokens=tokens,
            tokens_total=progress.tokens,
            norm=length,
            train_loss=progress.train_loss,
            lr_scale=scale,
            wall_s=self.since - since,
            wall_train_s=sum(update.wall_train_s for update in accumulated),
            wall_data_s=sum(update.wall_data_s for update in accumulated),
        )
