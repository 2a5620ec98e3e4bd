"""The stage: what Ray's worker processes need to know about a run.

Imports nothing heavy, since every process imports it first.
"""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flwr.app import ConfigRecord, Message

from fednano.coordination.store import StopRequestedError
from fednano.runtime.recipe import Recipe

RECORD = "fednano.stage"  # a task's record with the stage, if Flower's own command started the processes


@dataclass(frozen=True)
class Stage:
    """What a worker process needs to know about the run.

    Args:
        recipe: how to build the run's parts.
        threads: number of torch threads of a client while it trains.
        since: the zero of the run's clock.
        folder: a folder shared by the processes of the run.
    """

    recipe: Recipe
    threads: int
    since: float
    folder: Path

    @property
    def steps(self) -> Path:
        """The socket that receives inner steps."""
        return self.folder / "steps"

    def enter(self) -> None:
        """Register this process as a worker. Raises StopRequestedError if the run is over."""
        self._workers.mkdir(exist_ok=True)
        (self._workers / str(os.getpid())).touch()
        if self._over.exists():
            raise StopRequestedError

    def clear(self) -> None:
        """End the run's worker processes at once, and let no other begin: the run is over."""
        self._over.touch()
        for worker in self._workers.glob("*"):
            if worker.name.isdecimal():  # not what a file system left
                with suppress(ProcessLookupError):
                    os.kill(int(worker.name), signal.SIGKILL)

    def attach(self, message: Message) -> None:
        """Add the stage to a task, for processes that were started without it."""
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
        """Remove the stage from a task and return it."""
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
