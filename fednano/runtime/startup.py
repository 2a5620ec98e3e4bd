"""Start and end of a federated run, shared by all runtimes."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from fednano.coordination.store import CoordinationStore, StopRequestedError
from fednano.core.clock import Clock
from fednano.core.events import RunEnded, RunStarted
from fednano.core.inner_step import InnerStep, OnStep
from fednano.federation.loop import Federation
from fednano.report.sinks import Sink
from fednano.runtime.beginning import first_ledger, first_state
from fednano.runtime.engine import Engine, federate
from fednano.runtime.parts import Parts
from fednano.runtime.play_through import planned_tokens
from fednano.runtime.recording import make_recorder
from fednano.runtime.session import Outcome, Session, Status
from fednano.strategy.base import ServerState
from fednano.strategy.pacing import Pacing
from fednano.strategy.streaming import Streaming
from fednano.training.recorder import Recorder
from fednano.training.replicas import Replicas


@dataclass(frozen=True, kw_only=True)
class FederatedRun:
    """A federated run whose event log has begun."""

    parts: Parts
    session: Session
    engine: Engine
    federation: Federation
    recorder: Recorder

    def finish(self, run: Callable[[], None]) -> Outcome:
        """Call `run`, which runs the federation until it ends, stops or fails; returns the outcome."""
        status, error = concluded(run, self.federation.abandon, self.recorder, self.session, self.engine.clock)
        progress, trainer = self.recorder.progress, self.engine.trainer
        return Outcome(
            status=status,
            strategy=self.parts.strategy.name,
            state=self.federation.state,
            progress=progress,
            clients=self.parts.settings.clients,
            rows=self.federation.ledger.counts(),
            train_s=trainer.train_s,
            data_s=trainer.data_s,
            virtual_s=None,
            goodput=None,
            error=error,
        )


def start(parts: Parts, session: Session, engine: Engine) -> FederatedRun:
    """Build the federation and begin its event log, or continue from the checkpoint.

    Raises ValueError, before the first event, if a trace ends before the run does.
    """
    resume = session.resume
    if resume:
        parts.store.skip(resume.leases)
    if engine.analytic:
        state = resume.state if resume else ServerState()
        horizon = _undisturbed_tokens(parts, engine)
    else:
        state = first_state(parts, resume)
        horizon = planned_tokens(parts, engine.size, engine.live, session.progress)
    unmeasured = (lambda weights: (math.nan, math.nan)) if engine.analytic else None
    recorder = make_recorder(parts, session, engine.clock, engine.trainer, engine.replicas, unmeasured)
    federation = federate(
        parts,
        engine,
        state=state,
        ledger=first_ledger(parts, resume),
        recorder=recorder,
        store=parts.store,
        horizon=horizon,
    )
    if resume:
        # Clients that run elsewhere report again that they have drained.
        federation.resume(resume.up, () if engine.live else resume.leaving)
    session.start(run_started(parts, engine.name, horizon))
    return FederatedRun(parts=parts, session=session, engine=engine, federation=federation, recorder=recorder)


def played(run: Callable[[], None]) -> tuple[Status, Exception | None]:
    """Call `run`; returns how it ended, and the error that made it fail."""
    try:
        run()
    except StopRequestedError:
        return "interrupted", None
    except Exception as error:
        return "failed", error
    return "completed", None


def concluded(
    run: Callable[[], None], abandon: Callable[[], None], recorder: Recorder, session: Session, clock: Clock
) -> tuple[Status, Exception | None]:
    """Call `run`, save what it did if it did not complete, and emit the last event; returns as `played` does.

    The error is the first one: what follows from it, such as a checkpoint that finds no room either, says no more.
    """
    status, error = played(run)
    if status != "completed":
        try:
            abandon()
            recorder.checkpoint()
        except Exception as another:
            status, error = "failed", error or another
    progress = recorder.progress
    ended = RunEnded(t=clock.now(), status=status, rounds=progress.rounds, tokens_total=progress.tokens)
    try:
        session.emit(ended)
    except Exception as another:
        status, error = "failed", error or another
    return status, error


def showing(sink: Sink, store: CoordinationStore, replicas: Replicas) -> OnStep:
    """A callback that shows each inner step and then obeys a request to stop."""

    def told(step: InnerStep) -> None:
        sink.step(step)
        replicas.heed(store)

    return told


def run_started(parts: Parts, runtime: str, horizon: int) -> RunStarted:
    """The first event of a federated run."""
    settings, pacing = parts.settings, Pacing.of(parts.strategy)
    return RunStarted(
        t=0.0,
        runtime=runtime,
        strategy=parts.strategy.name,
        volatility=parts.volatility.name,
        clients=settings.names,
        parameters=parts.parameters(),
        rounds=settings.rounds or 0,
        local_steps=parts.strategy.local_steps,
        tokens_per_step=parts.tokens_per_step,
        tokens_planned=horizon,
        seed=settings.seed,
        train_rows=sum(len(rows) for rows in parts.pools.rows),
        unit="round" if pacing.waits else "merge",
        format=2 if pacing.carries or Streaming.of(parts.strategy) else 1,
    )


def _undisturbed_tokens(parts: Parts, engine: Engine) -> int:
    """Tokens of the budget, or those of a run whose clients never leave; the analytic mode needs no exact number."""
    settings, sites, steps = parts.settings, list(engine.sites.values()), parts.strategy.local_steps
    if settings.budget.tokens is not None:
        return settings.budget.tokens
    rounds = settings.budget.rounds_within(settings.rounds, parts.round.duration(sites, steps, parts.tokens_per_step))
    return rounds * parts.round.planned(sites, steps, parts.tokens_per_step)
