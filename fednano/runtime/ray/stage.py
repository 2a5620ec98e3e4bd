"""What Ray's worker processes are told of a run. Imports nothing heavy, since every process reads it first."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flwr.app import ConfigRecord, Message

from fednano.coordination.store import StopRequestedError
from fednano.runtime.recipe import Recipe

RECORD = "fednano.stage"  # of a task, where Flower's own command has started the processes


@dataclass(frozen=True)
class Stage:
    """What a worker process is told of the run.

    Args:
        recipe: of the run's parts.
        threads: of torch, for a client at work.
        since: the zero of the run's clock.
        folder: what the processes of the run share.
    """

    recipe: Recipe
    threads: int
    since: float
    folder: Path

    @property
    def steps(self) -> Path:
        """The socket that hears of inner steps."""
        return self.folder / "steps"

    def enter(self) -> None:
        """Say that this process works here. Raises StopRequestedError where the run is over."""
        self._workers.mkdir(exist_ok=True)
        (self._workers / str(os.getpid())).touch()
        if self._over.exists():
            raise StopRequestedError

    def clear(self) -> None:
        """The run is over: end the processes that work here, whatever they do, and let none begin."""
        self._over.touch()
        for worker in self._workers.glob("*"):
            with suppress(ProcessLookupError):
                os.kill(int(worker.name), signal.SIGKILL)

    def attach(self, message: Message) -> None:
        """Put it beside a task, for processes that were not started with it."""
        message.content[RECORD] = ConfigRecord(
            {
                "build": self.recipe.build,
                "config": self.recipe.config,
                "threads": self.threads,
                "since": self.since,
                "folder": str(self.folder),
            }
        )

    @classmethod
    def take(cls, message: Message) -> "Stage":
        """Take it out of a task again."""
        told = message.content.config_records[RECORD]
        del message.content[RECORD]
        recipe = Recipe(str(told["build"]), str(told["config"]))
        return cls(recipe, int(str(told["threads"])), float(str(told["since"])), Path(str(told["folder"])))

    @property
    def _workers(self) -> Path:
        return self.folder / "workers"

    @property
    def _over(self) -> Path:
        return self.folder / "over"
