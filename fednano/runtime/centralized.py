"""The centralized baseline: the same model, data and number of tokens on one machine."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from fednano.core.clock import VirtualClock
from fednano.core.events import RunStarted
from fednano.core.progress import Progress
from fednano.core.tensors import count
from fednano.runtime.beginning import first_ledger, local_trainer, message_bytes, untrained
from fednano.runtime.parts import Parts
from fednano.runtime.play_through import foreseen
from fednano.runtime.recording import make_recorder
from fednano.runtime.session import Outcome, Session
from fednano.runtime.startup import concluded, showing
from fednano.strategy.base import ServerState
from fednano.training.central import NAME, Central
from fednano.training.recorder import RunProgress
from fednano.training.replicas import Replicas, joined


@dataclass(frozen=True)
class Centralized:
    """One machine, as fast as the first client and always up, whose batch joins the batches of all clients.

    It trains as many tokens as `runtime=virtual` would merge with the same configuration, including its budget; only
    `budget.wall_hours` can end it earlier. Its clock is virtual: a step takes the time given by `hardware`.

    Args:
        name: the runtime's name.
    """

    shared: ClassVar[str] = "clients"
    in_process: ClassVar[bool] = True
    name: str = "centralized"

    def check(self, parts: Parts) -> None:
        """Raise ValueError for overlapped steps, or if a trace of carbon or price ends before the run does.

        The second check has to play the protocol through.
        """
        if parts.round.overlap:
            raise ValueError(
                f"round.overlap must be 0 with runtime={self.name}, which has no transfers to hide, got "
                f"{parts.round.overlap}; use 0"
            )
        if parts.energy.ends(parts.volatility) < math.inf:
            tokens, _ = _planned(parts)
            per_step = parts.settings.clients * parts.tokens_per_step
            parts.energy.require(-(-tokens // per_step) * per_step / parts.hardware.speed(0), parts.volatility)

    def run(self, parts: Parts, session: Session) -> Outcome:
        with joined(parts.hardware.device) as replicas:
            return self._run(parts, session, replicas)

    def _run(self, parts: Parts, session: Session, replicas: Replicas) -> Outcome:
        settings, resume = parts.settings, session.resume
        clock = VirtualClock(resume.clock if resume else 0.0)
        state = resume.state if resume else ServerState(weights=untrained(parts))
        if resume:
            parts.store.skip(resume.leases)
        tokens, federated = _planned(parts, session.progress)
        horizon = settings.budget.tokens or tokens
        per_step = settings.clients * parts.tokens_per_step
        step_s = per_step / parts.hardware.speed(0)
        per_round = parts.round.central_steps(parts.strategy.local_steps, -(-tokens // per_step), federated.rounds)
        trainer = local_trainer(parts, per_step, replicas, split_rows=False, resume=resume)
        recorder = make_recorder(parts, session, clock, trainer, replicas)
        ledger = first_ledger(parts, resume)
        session.start(self._started(parts, count(state.weights), tokens, per_step, per_round))
        central = Central(
            trainer=trainer,
            source=parts.source,
            pools=parts.pools.rows,
            pool_of=parts.pools.of_client,
            ledger=ledger,
            store=parts.store,
            recorder=recorder,
            clock=clock,
            step_s=step_s,
            shape=parts.shape,
            packing=parts.packing,
            rows_for=parts.rows_for,
            schedule=parts.optim.schedule,
            on_step=showing(session.sink, parts.store, replicas),
            replicas=replicas,
        )

        def run() -> None:
            nonlocal state
            for merged in central.run(state, tokens, per_round, horizon, replace(settings.budget, virtual_hours=None)):
                state = merged
            recorder.progress.ended_by = recorder.progress.ended_by or federated.ended_by

        status, error = concluded(run, central.abandon, recorder, session, clock)
        progress = recorder.progress
        return Outcome(
            status=status,
            strategy=None,
            state=state,
            progress=progress,
            clients=1,
            rows=ledger.counts(),
            train_s=trainer.train_s,
            data_s=trainer.data_s,
            virtual_s=clock.now(),
            goodput=None,
            error=error,
        )

    def _started(self, parts: Parts, parameters: int, tokens: int, per_step: int, per_round: int) -> RunStarted:
        steps = -(-tokens // per_step)
        return RunStarted(
            t=0.0,
            runtime=self.name,
            strategy="none",
            volatility="none",
            clients=(NAME,),
            parameters=parameters,
            rounds=-(-steps // per_round),
            local_steps=per_round,
            tokens_per_step=per_step,
            tokens_planned=tokens,
            seed=parts.settings.seed,
            train_rows=sum(len(rows) for rows in parts.pools.rows),
        )


def _planned(parts: Parts, progress: Progress | None = None) -> tuple[int, RunProgress]:
    """The tokens to train, and the progress of the federated run at its end.

    The federated run merges whole rounds, so its tokens may exceed a budget of tokens.
    """
    federated = foreseen(parts, message_bytes(parts), progress=progress)
    tokens = max(parts.tokens_per_step, federated.tokens)
    return min(tokens, parts.settings.budget.tokens or tokens), federated
