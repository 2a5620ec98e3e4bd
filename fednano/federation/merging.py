"""The end of a round: what was folded is merged and its rows are settled, or the round is skipped."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fednano.core import tensors
from fednano.core.clock import Clock, wall
from fednano.core.events import Event, RoundMerged, RoundSkipped
from fednano.federation.leases import Leases
from fednano.federation.plan import Plan, Round
from fednano.strategy.base import ServerState, Strategy
from fednano.training.recorder import Progress


@dataclass(kw_only=True)
class Merging:
    """Closes the rounds of one federation. `progress` is kept up to date; `since` is when the last one ended."""

    strategy: Strategy
    plan: Plan
    leases: Leases
    clock: Clock
    progress: Progress
    emit: Callable[[Event], None]
    since: float = field(default_factory=wall)

    def close(self, round_: Round, state: ServerState) -> ServerState:
        """The state behind a round: the same one, with its rows free, where too few updates came."""
        folded = round_.folded
        if len(folded) < self.strategy.quorum:
            for update in folded:
                self.leases.release(update.lease, "skipped")
            reason = f"{len(folded)} updates are below the quorum of {self.strategy.quorum}"
            self.emit(RoundSkipped(t=self.clock.now(), round=round_.index, updates=len(folded), reason=reason))
            return state
        mean = round_.accumulator.mean()
        length = tensors.norm(mean) if mean else math.nan
        if round_.adopted is None:
            merged = self.strategy.merge(state, mean)
        else:
            merged = replace(state, weights=round_.adopted, version=state.version + 1)
        merged = replace(merged, inner=round_.inner.mean())
        for update in folded:
            self.leases.settle(update)
        self.emit(self._merged(round_, merged, length))
        return merged

    def _merged(self, round_: Round, state: ServerState, length: float) -> RoundMerged:
        folded, progress = round_.folded, self.progress
        tokens = sum(update.tokens for update in folded)
        scale = self.plan.lr_scale(progress.tokens, self.plan.horizon) if state.weights else math.nan
        progress.tokens += tokens
        progress.steps += sum(update.steps for update in folded)
        progress.train_loss = sum(update.train_loss * update.tokens for update in folded) / tokens
        since, self.since = self.since, wall()
        return RoundMerged(
            t=self.clock.now(),
            round=round_.index,
            version=state.version,
            leases=tuple(update.lease for update in folded),
            steps=sum(update.steps for update in folded),
            tokens=tokens,
            tokens_total=progress.tokens,
            norm=length,
            train_loss=progress.train_loss,
            lr_scale=scale,
            wall_s=self.since - since,
            wall_train_s=sum(update.wall_train_s for update in folded),
            wall_data_s=sum(update.wall_data_s for update in folded),
        )
