"""The ClientApp that is sent to Ray's worker processes; torch is imported at the first task."""

from functools import cache
from typing import TYPE_CHECKING

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fednano.runtime.ray.stage import Stage

if TYPE_CHECKING:
    from fednano.runtime.ray.actor import ClientActor


def make_actor_app(stage: Stage) -> ClientApp:
    """A ClientApp for Ray's worker processes, each of which builds the run's parts once."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return _train(stage, message, context)

    return app


def train(message: Message, context: Context) -> Message:
    """The answer to a task that carries its stage."""
    return _train(Stage.take(message), message, context)


def _train(stage: Stage, message: Message, context: Context) -> Message:
    stage.enter()
    return _actor(stage).train(message, context)


@cache
def _actor(stage: Stage) -> "ClientActor":
    from fednano.runtime.ray.actor import ClientActor

    return ClientActor(stage)
