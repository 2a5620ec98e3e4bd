"""The inputs and results of every runtime: a session and its outcome."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from msgspec import structs

from fednano.core.clock import wall
from fednano.core.event_log import EventLog
from fednano.core.events import Evaluated, Event, RoundMerged, RunStarted
from fednano.core.progress import Progress, Silent
from fednano.report.sinks import Sink
from fednano.strategy.base import ServerState
from fednano.training.checkpoint import Snapshot
from fednano.training.recorder import RunProgress

Status = Literal["completed", "interrupted", "failed"]


@dataclass(frozen=True, kw_only=True)
class Session:
    """Where a run's events go: to the event log and to the sinks.

    `resume` is the checkpoint that a resumed run continues from; `begun` is when this process started it, by `wall()`.
    `progress` is told of long work before the run.
    """

    folder: Path
    event_log: EventLog
    sink: Sink
    resume: Snapshot | None = None
    begun: float = field(default_factory=wall)
    progress: Progress = field(default_factory=Silent)

    @property
    def wall_s(self) -> float:
        """Wall-clock seconds of the run, including those before it was resumed."""
        return wall() - self.begun + (self.resume.wall_s if self.resume else 0.0)

    def start(self, started: RunStarted) -> None:
        """Begin the event log, or continue it from the checkpoint."""
        if not self.resume:
            self.emit(started)
        elif self.resume.due:
            self.emit(self.resume.saved)

    def emit(self, event: Event) -> None:
        if isinstance(event, RoundMerged | Evaluated):
            event = structs.replace(event, wall_run_s=self.wall_s)
        self.event_log.append(event)
        self.sink.event(event)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a runtime measured; None for what it cannot measure."""

    status: Status
    strategy: str | None
    state: ServerState
    progress: RunProgress
    clients: int
    rows: dict[str, int]
    train_s: float
    data_s: float
    virtual_s: float | None
    goodput: float | None
    error: Exception | None = None
