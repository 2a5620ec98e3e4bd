"""How far a run is, and the two things done with that now and then: measuring the global model and saving it."""

from collections.abc import Callable
from dataclasses import dataclass

from fednano.clock import Clock, wall
from fednano.data.ledger import Ledger
from fednano.events import CheckpointSaved, Evaluated, Event
from fednano.strategy.base import ServerState
from fednano.tensors import State

Evaluate = Callable[[State], tuple[float, float]]
"""Measures weights: (nats per token, bits per byte)."""


@dataclass
class Progress:
    """Counts since the run began; a checkpoint holds them beside the state and the ledger."""

    rounds: int = 0
    tokens: int = 0
    steps: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    train_loss: float | None = None
    val_bpb_initial: float | None = None
    val_bpb: float | None = None


Save = Callable[[ServerState, Ledger, Progress, float], str]
"""Writes a checkpoint and returns its name."""


@dataclass(frozen=True)
class Recorder:
    """Evaluates and saves every so many rounds, each version at most once.

    Args:
        eval_every: rounds between two evaluations.
        checkpoint_every: rounds between two checkpoints.
        evaluate: measures weights.
        save: writes a checkpoint.
        emit: takes the events.
        clock: stamps them.
        progress: the run's counts, kept up to date by whoever trains.
    """

    eval_every: int
    checkpoint_every: int
    evaluate: Evaluate
    save: Save
    emit: Callable[[Event], None]
    clock: Clock
    progress: Progress

    def begin(self, state: ServerState) -> None:
        """Measure the model that the run begins with."""
        self._measure(state)

    def after_round(self, state: ServerState, ledger: Ledger, last: bool) -> None:
        """What is due after a round; the last one is always measured and saved."""
        done = self.progress.rounds
        if last or done % self.eval_every == 0:
            self._measure(state)
        if last or done % self.checkpoint_every == 0:
            self.checkpoint(state, ledger)

    def checkpoint(self, state: ServerState, ledger: Ledger) -> None:
        """Save now."""
        name = self.save(state, ledger, self.progress, self.clock.now())
        self.emit(CheckpointSaved(t=self.clock.now(), round=self.progress.rounds, version=state.version, name=name))

    def _measure(self, state: ServerState) -> None:
        begun = wall()
        loss, bpb = self.evaluate(state.weights)
        progress = self.progress
        if progress.val_bpb_initial is None:
            progress.val_bpb_initial = bpb
        progress.val_bpb = bpb
        self.emit(
            Evaluated(
                t=self.clock.now(),
                round=progress.rounds,
                version=state.version,
                tokens_total=progress.tokens,
                val_loss=loss,
                val_bpb=bpb,
                wall_s=wall() - begun,
            )
        )
