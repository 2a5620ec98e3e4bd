"""The ClientApp of the app bundle: on a node it hands messages to the trainer, in Flower's simulation it trains.

Imports no torch, which a node's trainer alone needs.
"""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fednano.flower import relay
from fednano.runtime.ray import stage, tasks

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """The answer to a task. Raises ValueError on a SuperNode that has no trainer."""
    if "socket" in context.node_config:
        return relay.train(message, context)
    if stage.RECORD in message.content.config_records:
        return tasks.train(message, context)
    raise ValueError("the node's configuration names no socket of a trainer; start it by python -m fednano.node")


@app.query()
def query(message: Message, context: Context) -> Message:
    """Who a node is."""
    return relay.query(message, context)
