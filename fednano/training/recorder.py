"""Progress of a run, and the recorder that evaluates the global model and saves checkpoints."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from fednano.core.clock import Clock, wall
from fednano.core.events import CheckpointSaved, Evaluated, Event
from fednano.core.tensors import State
from fednano.data.ledger import Ledger
from fednano.strategy.base import ServerState
from fednano.training.budget import ROUNDS, Budget

Evaluate = Callable[[State], tuple[float, float]]
"""Measures weights: (nats per token, bits per byte)."""


@dataclass(kw_only=True)
class RunProgress:
    """Counts since the run began; a checkpoint holds them with the state and the ledger.

    `ended_by` is the configuration key that ended the run, once its last round is done. `norms` are those of the last
    accepted updates with their steps and fragments, oldest first, and `state_norms` those of the optimizer states that
    came with them; the guard judges the next ones by them. `holdings` record the fragments that clients hold.
    """

    rounds: int = 0
    tokens: int = 0
    steps: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    train_loss: float | None = None
    val_bpb_initial: float | None = None
    val_bpb: float | None = None
    ended_by: str | None = None
    norms: tuple[tuple[float, int, int], ...] = ()
    state_norms: tuple[float, ...] = ()
    holdings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "RunProgress":
        """The inverse of `dataclasses.asdict` by way of JSON. Raises TypeError or ValueError for another record."""
        norms = tuple(
            (float(norm), int(steps), int(fragment[0]) if fragment else 0)
            for norm, steps, *fragment in record.get("norms", ())
        )
        return cls(**{**record, "norms": norms, "state_norms": tuple(record.get("state_norms", ()))})

    def left(self, rounds: int) -> Iterator[int]:
        """The indices of the remaining rounds, below `rounds`, until something has ended the run."""
        if self.rounds >= rounds:
            self.ended_by = self.ended_by or ROUNDS
        while self.ended_by is None:
            yield self.rounds


Write = Callable[[], CheckpointSaved]
"""Writes the marked state; returns the event for it."""


Mark = Callable[[ServerState, Ledger, RunProgress, Sequence[str], Sequence[str], bool], Write]
"""Captures the run's state, to be written now, later or not at all.

Arguments: the state, the ledger, the counts, the clients that are up, those of them that have drained, and whether the
configuration asks for a checkpoint here.
"""


def unsaved(*place: object) -> Write:
    """A `Mark` that never writes."""
    return lambda: CheckpointSaved(t=0.0, round=0, version=0, name="")


@dataclass(kw_only=True)
class Recorder:
    """Evaluates and saves every so many rounds, each version at most once.

    A checkpoint is always of the end of a round: a run stopped within a round resumes from the end of the previous one.

    Args:
        eval_every: rounds between two evaluations.
        checkpoint_every: rounds between two checkpoints.
        evaluate: measures weights.
        mark: captures the run's state.
        emit: receives the events.
        clock: stamps them.
        progress: the run's counts, kept up to date by the training loop.
        wall_s: wall-clock seconds of the run so far.
    """

    eval_every: int
    checkpoint_every: int
    evaluate: Evaluate
    mark: Mark
    emit: Callable[[Event], None]
    clock: Clock
    progress: RunProgress
    wall_s: Callable[[], float] = lambda: 0.0  # for a run that is only simulated
    _unwritten: Write | None = None
    _owed: bool = False

    def begin(self, state: ServerState, ledger: Ledger, up: Sequence[str] = ()) -> None:
        """Evaluate the initial model, unless the run resumes after that."""
        if self.progress.rounds or self.progress.val_bpb_initial is not None:
            return
        self._unwritten = self.mark(state, ledger, self.progress, up, (), False)
        self._measure(state)
        self._unwritten = self.mark(state, ledger, self.progress, up, (), False)

    def after_round(
        self,
        state: ServerState,
        ledger: Ledger,
        last: bool,
        up: Sequence[str] = (),
        leaving: Sequence[str] = (),
        quiet: bool = True,
    ) -> None:
        """Evaluate and save what is due after a round; the last round is always evaluated and saved.

        While a reply is on its way or overlapped steps are in progress (not `quiet`), the run could not resume from
        here, so a checkpoint that is due waits for the next round.
        """
        done = self.progress.rounds
        if last or done % self.eval_every == 0:
            self._measure(state)
        self._owed = last or self.due(done)
        if not (quiet or last):
            return
        self._unwritten = self.mark(state, ledger, self.progress, up, leaving, self._owed)
        if self._owed:
            self.checkpoint()
            self._owed = False

    def ended(self, rounds: int, budget: Budget) -> bool:
        """Whether the round just done is the last, by `rounds` or by the budget; `progress.ended_by` gets the cause."""
        progress = self.progress
        used_up = budget.used_up(progress.tokens, self.clock.now(), self.wall_s)
        progress.ended_by = ROUNDS if progress.rounds >= rounds else used_up
        return progress.ended_by is not None

    def due(self, rounds: int) -> bool:
        """Whether a checkpoint is due once `rounds` rounds are done."""
        return self._owed or rounds % self.checkpoint_every == 0

    def checkpoint(self) -> None:
        """Save the last state that the run can resume from, unless it is already saved."""
        if self._unwritten:
            self.emit(structs.replace(self._unwritten(), t=self.clock.now()))
            self._unwritten = None

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
