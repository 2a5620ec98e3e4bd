"""Flower's messages outside its own processes: the identity that signs them, and their ids, errors and runs.

Imports little, since a SuperNode's process imports it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from flwr.app import Message, Metadata, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = [
    "CLIENT_APP_FAILED",
    "REPLY_UNAVAILABLE",
    "LocalMessage",
    "Run",
    "adopt_identity",
    "empty_run",
    "identity_kept",
    "put_unchecked",
    "set_message_id",
]

CLIENT_APP_FAILED = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
REPLY_UNAVAILABLE = ErrorCode.REPLY_MESSAGE_UNAVAILABLE


def put_unchecked(record: Mapping[str, object], values: Mapping[str, object]) -> None:
    """Put values into a record of Flower's that its own checks refuse, or that would take them long."""
    vars(record)["_data"].update(values)


def adopt_identity(run_id: int = 1, node_id: int = 1) -> None:
    """Let this process build a run's messages as a node; Flower itself does this only for its own processes."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, node_id, 1


@contextmanager
def identity_kept() -> Iterator[None]:
    """Restore this process's Flower identity at the end of the block, whatever it adopts within."""
    before = {name: getattr(TaskIdentity, name) for name in ("_run_id", "_node_id", "_task_id")}
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(TaskIdentity, name, value)


def set_message_id(message: Message, message_id: str) -> None:
    """Set a message's id, which otherwise Flower's grid does when it pushes the message."""
    vars(message.metadata)["_message_id"] = message_id


def empty_run(run_id: int) -> Run:
    """A run of which only the id is known."""
    return Run.create_empty(run_id)


class LocalMessage(Message):
    """A message within this process, made without the checks and time stamps of a message that travels."""

    def __init__(self, content: RecordDict, metadata: Metadata) -> None:
        metadata.delivered_at = ""  # Flower's initial value
        vars(self).update(_content=content, _error=None, _metadata=metadata)

    @classmethod
    def reply(cls, content: RecordDict, to: Message) -> "LocalMessage":
        asked = to.metadata
        there, back = asked.src_node_id, asked.dst_node_id
        sent, ttl, kind = asked.created_at, asked.ttl, asked.message_type
        return cls(content, Metadata(asked.run_id, "", back, there, asked.message_id, asked.group_id, sent, ttl, kind))
