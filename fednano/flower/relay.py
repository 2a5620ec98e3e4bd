"""The ClientApp of SuperNodes, which passes each message on to the node's resident trainer.

Imports no torch: a SuperNode does not need it, and one other than fednano's starts a process for every message. The
node's configuration names the node and the trainer's socket: `name="site_a" socket="/run/…/trainer.sock"`.
"""

import json
from contextlib import closing, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from fednano.core.marks import mark
from fednano.flower import wire
from fednano.flower.compat.messages import CLIENT_APP_FAILED
from fednano.flower.wire import WireMessage

RUN = "fednano.run"  # a query's record of what to run: its `run` in the coordination store, and its `config` as JSON
TOLD = "run.json"  # file beside the socket with the record of the last query

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """The trainer's answer to a task; an error reply if there is no trainer or it dies during the task."""
    name, path = str(context.node_config["name"]), Path(str(context.node_config["socket"]))
    mark("relayed", name)
    try:
        answer = _ask(path, WireMessage(wire.TRAIN, message.content))
    except (OSError, ValueError) as error:
        return Message(Error(CLIENT_APP_FAILED, f"the trainer of {name} failed: {error}"), reply_to=message)
    mark("answered", name)
    if answer.kind != wire.RESULT:
        return Message(Error(CLIENT_APP_FAILED, wire.reason_of(answer.content)), reply_to=message)
    return Message(answer.content, reply_to=message)


@app.query()
def query(message: Message, context: Context) -> Message:
    """The node's name, and the trainer's incarnation, which is empty if no trainer runs.

    If the query says what to run, that is kept for a trainer that was started without a configuration.
    """
    path = Path(str(context.node_config["socket"]))
    if RUN in message.content.config_records:
        _keep(path, message.content.config_records[RUN])
    try:
        answer = _ask(path, WireMessage(wire.HELLO)).content
        incarnation = str(answer.config_records[wire.NODE]["incarnation"])
    except (OSError, ValueError):
        incarnation = ""
    node = ConfigRecord({"name": str(context.node_config["name"]), "incarnation": incarnation})
    return Message(RecordDict({wire.NODE: node}), reply_to=message)


def _keep(path: Path, run: ConfigRecord) -> None:
    """Write what the server wants run beside the socket; a trainer of another run is asked to restart."""
    told, text = path.parent / TOLD, json.dumps({"run": str(run["run"]), "config": str(run["config"])})
    if told.exists() and told.read_text(encoding="utf-8") == text:
        return
    with NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        file.write(text)
    Path(file.name).replace(told)
    with suppress(OSError, ValueError):  # without a running trainer, the next one reads the file
        _ask(path, WireMessage(wire.RENEW))


def _ask(path: Path, parcel: WireMessage) -> WireMessage:
    with closing(wire.connect(path)) as connection:
        wire.send(connection, parcel)
        return wire.receive(connection)
