"""Recorder of a run: its evaluations and the contents of its checkpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from fednano.config.recorded import recorded_sha256
from fednano.core.clock import Clock
from fednano.core.tensors import State
from fednano.data.ledger import Ledger
from fednano.model.gpt import GPT
from fednano.runtime.parts import Parts
from fednano.runtime.session import Session
from fednano.strategy.base import ServerState
from fednano.training.checkpoint import Checkpoints, Snapshot
from fednano.training.evaluate import Evaluator
from fednano.training.recorder import Evaluate, Recorder, RunProgress, Write, unsaved
from fednano.training.replicas import Replicas


class Resumable(Protocol):
    """The part of a trainer that checkpoints save: states by client, seconds inside steps, seconds waiting for data."""

    @property
    def train_s(self) -> float: ...

    @property
    def data_s(self) -> float: ...

    def states(self) -> Mapping[str, State]: ...


def make_recorder(
    parts: Parts,
    session: Session,
    clock: Clock,
    trainer: Resumable,
    replicas: Replicas,
    evaluate: Evaluate | None = None,
) -> Recorder:
    """The recorder of a run; only that of the first rank evaluates and saves.

    It evaluates on held-out rows unless `evaluate` is given, and saves checkpoints in the run folder.
    """
    make = partial(
        Recorder,
        eval_every=parts.settings.eval_every,
        checkpoint_every=parts.settings.checkpoint_every,
        emit=session.emit,
        clock=clock,
        progress=replace(session.resume.progress) if session.resume else RunProgress(),
        # All ranks must agree on when the run ends.
        wall_s=lambda: max(replicas.gather(session.wall_s)),
    )
    if replicas.rank:
        return make(evaluate=lambda _: (0.0, 0.0), mark=unsaved)
    # Ranks can agree to stop at inner steps only.
    check = parts.store.check_stop if replicas.world == 1 else _go_on
    evaluator = evaluate or Evaluator(GPT(parts.gpt), parts.hardware, parts.validation, check)
    return make(evaluate=evaluator, mark=_Marker(parts, session, clock, trainer))


class _Marker:
    """The `Mark` of a run that saves checkpoints."""

    def __init__(self, parts: Parts, session: Session, clock: Clock, trainer: Resumable) -> None:
        self._checkpoints = Checkpoints(session.folder / "checkpoints", parts.settings.checkpoint_keep)
        if session.resume:
            self._checkpoints.tidy(session.resume)
        self._config_sha256 = recorded_sha256(session.folder)
        self._store = parts.store
        self._session = session
        self._clock = clock
        self._trainer = trainer

    def __call__(
        self,
        state: ServerState,
        ledger: Ledger,
        progress: RunProgress,
        up: Sequence[str],
        leaving: Sequence[str],
        due: bool,
    ) -> Write:
        held = ledger.copy()
        snapshot = Snapshot(
            state=state,
            inner=self._trainer.states(),
            ledger={},
            progress=replace(progress),
            clock=self._clock.now(),
            leases=self._store.issued(),
            up=tuple(up),
            leaving=tuple(leaving),
            event_log=self._session.event_log.mark(),
            due=due,
            wall_s=self._session.wall_s,
            train_s=self._trainer.train_s,
            data_s=self._trainer.data_s,
            config_sha256=self._config_sha256,
        )
        return lambda: self._checkpoints.save(replace(snapshot, ledger=held.to_record()))


def _go_on() -> None:
    pass
