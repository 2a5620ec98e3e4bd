"""The baseline: the same model, data and number of tokens in one place."""

from dataclasses import dataclass

from fednano.clock import VirtualClock
from fednano.coordination.board import StopRequestedError
from fednano.events import RunEnded, RunStarted
from fednano.runtime.parts import Outcome, Parts, Session, Status
from fednano.runtime.virtual import planned_tokens
from fednano.tensors import count
from fednano.training.central import NAME, Central


@dataclass(frozen=True)
class Centralized:
    """One machine as fast as the first client, always up, whose batch is the clients' batches joined.

    It trains as many tokens as `runtime=virtual` would merge with the same configuration. Its clock is virtual: a
    step takes the time that `hardware` says.
    """

    name: str = "centralized"

    def run(self, parts: Parts, session: Session) -> Outcome:
        settings = parts.settings
        clock = VirtualClock()
        state = parts.initial_state()
        tokens = planned_tokens(parts, parts.codec.size(count(state.weights)))
        recorder = parts.recorder(session, clock)
        per_step = settings.clients * parts.tokens_per_step
        trainer = parts.trainer(per_step)
        ledger = parts.new_ledger()
        session.emit(self._started(parts, count(state.weights), tokens, per_step))
        central = Central(
            trainer=trainer,
            source=parts.source,
            pools=parts.pools.rows,
            pool_of=parts.pools.of_client,
            ledger=ledger,
            board=parts.board,
            recorder=recorder,
            clock=clock,
            step_s=per_step / parts.hardware.speed(0),
            shape=parts.shape,
            packing=parts.packing,
            rows_for=parts.rows_for,
            schedule=parts.optim.schedule,
            on_step=parts.on_step(session),
        )
        status: Status = "completed"
        error: Exception | None = None
        try:
            for merged in central.run(state, tokens, parts.strategy.local_steps):
                state = merged
        except StopRequestedError:
            status = "interrupted"
        except Exception as caught:
            status, error = "failed", caught
        if status != "completed":
            central.abandon()
            recorder.checkpoint(state, ledger)
        progress = recorder.progress
        session.emit(RunEnded(t=clock.now(), status=status, rounds=progress.rounds, tokens_total=progress.tokens))
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

    def _started(self, parts: Parts, parameters: int, tokens: int, per_step: int) -> RunStarted:
        steps = -(-tokens // per_step)
        return RunStarted(
            t=0.0,
            runtime=self.name,
            strategy="none",
            volatility="none",
            clients=(NAME,),
            parameters=parameters,
            rounds=-(-steps // parts.strategy.local_steps),
            local_steps=parts.strategy.local_steps,
            tokens_per_step=per_step,
            tokens_planned=tokens,
            seed=parts.settings.seed,
            train_rows=sum(len(rows) for rows in parts.pools.rows),
        )
