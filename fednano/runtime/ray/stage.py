"""What Ray's worker processes are sent: light, since it is there before anything heavy is imported."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from fednano.coordination.store import StopRequestedError

if TYPE_CHECKING:
    from fednano.runtime.ray.actor import Actor

RECORD = "fednano.stage"  # of a task, where Flower's own command has started the processes


@dataclass(frozen=True)
class Recipe:
    """How another process builds the parts of a run: `build` names the function that takes `config`, as YAML."""

    build: str
    config: str

    def parts(self) -> Any:
        module, _, function = self.build.rpartition(".")
        return getattr(import_module(module), function)(self.config)


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


def make_actor_app(stage: Stage) -> ClientApp:
    """A ClientApp that is sent to Ray's processes, each of which builds the run's parts once."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return _train(stage, message, context)

    return app


def train(message: Message, context: Context) -> Message:
    """The answer to a task that has its stage beside it."""
    return _train(Stage.take(message), message, context)


def _train(stage: Stage, message: Message, context: Context) -> Message:
    stage.enter()
    return _actor(stage).train(message, context)


@cache
def _actor(stage: Stage) -> "Actor":
    from fednano.runtime.ray.actor import Actor

    return Actor(stage)
