"""The ClientApp of the app bundle: it passes messages to a node's trainer, or trains in Flower's simulation.

Imports no torch, which only a node's trainer needs.
"""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fednano.flower import relay
from fednano.runtime.ray import stage, tasks

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """The answer to a task. Raises ValueError on a SuperNode without a trainer."""
    if "socket" in context.node_config:
        return relay.train(message, context)
    if stage.RECORD in message.content.config_records:
        return tasks.train(message, context)
    raise ValueError("the node's configuration must name a trainer's socket; start the node by python -m fednano.node")


@app.query()
def query(message: Message, context: Context) -> Message:
    """The node's name and its trainer's incarnation."""
    return relay.query(message, context)
