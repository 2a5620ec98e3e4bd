"""The centralized baseline: the same model, data and tokens in one process, with the clients' batches joined."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from fednano.coordination.store import CoordinationStore
from fednano.core import tensors
from fednano.core.clock import VirtualClock, wall
from fednano.core.events import LeaseGranted, LeaseReleased, RoundMerged, UpdateFolded
from fednano.core.inner_step import InnerStep, OnStep
from fednano.data.ledger import Ledger, Position, Span, records_of
from fednano.data.loader import Batch, LeaseLoader, Packing, RowNumbers, TextSource
from fednano.optim.schedule import Schedule
from fednano.strategy.base import ServerState
from fednano.training.budget import Budget
from fednano.training.local import LocalTrainer, StepPlan, StepsDone
from fednano.training.recorder import Recorder
from fednano.training.replicas import Replicas

NAME = "central"


class JoinedBatches:
    """One batch of each loader per step, joined along the rows.

    `reached` holds the loaders' cursors and left spans after each batch, since batches are made ahead of the steps.
    """

    def __init__(self, loaders: Sequence[LeaseLoader]) -> None:
        self._loaders = loaders
        self.reached: list[list[tuple[Position, tuple[Span, ...]]]] = []

    def __iter__(self) -> Iterator[Batch]:
        for parts in zip(*self._loaders, strict=False):
            self.reached.append([(part.cursor, part.left) for part in parts])
            tokens = np.concatenate([part.tokens for part in parts])
            targets = np.concatenate([part.targets for part in parts])
            yield Batch(tokens, targets, parts[0].cursor)


class Central:
    """Trains in chunks of H steps, which count as rounds in events and metrics.

    Args:
        trainer: takes the steps.
        source: texts and tokenizer.
        pools: corpus rows of every pool.
        pool_of: the pool that each of the joined batches reads.
        ledger: records rows, as in a federated run.
        store: numbers leases and holds stop requests.
        recorder: evaluates, saves and emits.
        clock: charged with `step_s` for every step.
        shape: (B, T) of one of the joined batches.
        packing: how rows make batches.
        rows_for: (pool, tokens) → rows that hold about that many.
        replicas: the ranks that share the joined batches.
    """

    def __init__(
        self,
        *,
        trainer: LocalTrainer,
        source: TextSource,
        pools: Sequence[RowNumbers],
        pool_of: Sequence[int],
        ledger: Ledger,
        store: CoordinationStore,
        recorder: Recorder,
        clock: VirtualClock,
        step_s: float,
        shape: tuple[int, int],
        packing: Packing,
        rows_for: Callable[[int, int], int],
        schedule: Schedule,
        on_step: OnStep,
        replicas: Replicas,
    ) -> None:
        self._trainer = trainer
        self._source = source
        self._pools = pools
        self._pool_of = pool_of
        self._ledger = ledger
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._step_s = step_s
        self._shape = shape
        self._packing = packing
        self._rows_for = rows_for
        self._schedule = schedule
        self._on_step = on_step
        self._replicas = replicas

    def run(
        self, state: ServerState, tokens: int, steps_per_round: int, horizon: int, budget: Budget
    ) -> Iterator[ServerState]:
        """Train up to `tokens` tokens in all, rounded up to whole steps; yields the state after every chunk.

        Learning rates end at `horizon` tokens. The run ends earlier if the budget is used up.
        """
        B, T = self._shape
        per_step = len(self._pool_of) * B * T
        total_steps = -(-tokens // per_step)
        self._recorder.begin(state, self._ledger)
        progress = self._recorder.progress
        while progress.steps < total_steps and progress.ended_by is None:
            steps = min(steps_per_round, total_steps - progress.steps)
            state = self._chunk(state, progress.rounds, steps, horizon)
            progress.rounds += 1
            yield state
            ended = self._recorder.ended(sys.maxsize, budget)
            self._recorder.after_round(state, self._ledger, last=ended or progress.steps >= total_steps)

    def _chunk(self, state: ServerState, index: int, steps: int, horizon: int) -> ServerState:
        begun, started = wall(), self._clock.now()
        B, T = self._shape
        leases, batches = self._lease(index, steps)
        progress = self._recorder.progress
        per_step = len(leases) * B * T
        plan = StepPlan(
            steps=steps, step_s=self._step_s, tokens_before=progress.tokens, tokens_per_step=per_step, horizon=horizon
        )

        def after_step(taken: int, loss: float) -> None:
            self._on_step(InnerStep(client=NAME, round=index, step=taken, steps=steps, loss=loss, tokens=per_step))

        done, local = self._trainer.run(NAME, state.weights, batches, plan, self._clock, lambda _: True, after_step)
        if not done.steps:
            raise RuntimeError("a lease must hold at least one batch, got none; fix rows_for, which chose its rows")
        moved = tensors.norm(tensors.subtract(state.weights, local))
        state = replace(state, weights=tensors.clone(local), version=state.version + 1)
        self._settle(index, state.version - 1, leases, batches, done, moved, started)
        scale = self._schedule.scale(progress.tokens, horizon)
        progress.tokens += done.tokens
        progress.steps += done.steps
        progress.train_loss = done.loss
        self._recorder.emit(
            RoundMerged(
                t=self._clock.now(),
                round=index,
                version=state.version,
                leases=tuple(leases),
                steps=done.steps,
                tokens=done.tokens,
                tokens_total=progress.tokens,
                norm=moved,
                train_loss=done.loss,
                lr_scale=scale,
                wall_s=wall() - begun,
                wall_train_s=done.train_s,
                wall_data_s=done.data_s,
            )
        )
        return state

    def _settle(
        self,
        index: int,
        version: int,
        leases: list[int],
        batches: JoinedBatches,
        done: StepsDone,
        moved: float,
        started: float,
    ) -> None:
        """Record each lease's share of the chunk in the event log and the ledger."""
        # Each rank knows only the cursors of its own loaders; a batch is trained only if every rank has one.
        by_rank = self._replicas.gather(batches.reached[done.steps - 1])
        for i, lease in enumerate(leases):
            (row, token), left = by_rank[i % len(by_rank)][i // len(by_rank)]
            self._recorder.emit(
                UpdateFolded(
                    t=self._clock.now(),
                    round=index,
                    client=NAME,
                    lease=lease,
                    version=version,
                    steps=done.steps,
                    tokens=done.tokens // len(leases),
                    row=row,
                    token=token,
                    left=records_of(left),
                    weight=1.0,
                    norm=moved,
                    train_loss=done.loss,
                    drained=False,
                    bytes=0,
                    busy_from=started,
                    busy_until=self._clock.now(),
                    wall_train_s=done.train_s / len(leases),
                    wall_data_s=done.data_s / len(leases),
                )
            )
            self._ledger.settle(lease, row, token, left)
            self._store.give_up(lease)

    def _lease(self, index: int, steps: int) -> tuple[list[int], JoinedBatches]:
        B, T = self._shape
        leases, loaders = [], []
        for pool in self._pool_of:
            lease = self._store.grant(NAME, index, expires=float("inf"))
            grant = self._ledger.lease(lease.id, pool, self._rows_for(pool, steps * B * T))
            self._recorder.emit(
                LeaseGranted(
                    t=self._clock.now(),
                    round=index,
                    client=NAME,
                    lease=lease.id,
                    pool=pool,
                    spans=grant.as_records(),
                    expires=-1.0,
                )
            )
            leases.append(lease.id)
            loaders.append(LeaseLoader(self._source, self._pools[pool], grant, B, T, self._packing))
        return leases, JoinedBatches(self._replicas.mine(loaders))

    def abandon(self) -> None:
        """Free the rows of the chunk in progress."""
        for lease in self._store.held():
            self._store.give_up(lease.id)
            self._ledger.release(lease.id)
            self._recorder.emit(
                LeaseReleased(t=self._clock.now(), round=lease.round, client=NAME, lease=lease.id, reason="end")
            )
