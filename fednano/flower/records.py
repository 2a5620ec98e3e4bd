"""Conversion of tasks and results to Flower records and back. Nothing is pickled: fields are scalars, lists, bytes."""

from collections.abc import Iterable, Mapping
from typing import Literal

from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from torch import Tensor

from fednano.codec.base import Codec
from fednano.core.tensors import Shapes, State
from fednano.core.text import brief
from fednano.data.ledger import Grant, Span
from fednano.flower import fields
from fednano.flower.fields import AheadFields, ResultFields, StreamFields, TaskFields
from fednano.flower.packed import LOSSLESS, MOST_RECORDS, pack_state, unpack, unpack_state
from fednano.training.local import StepsDone
from fednano.training.overlap import Advance
from fednano.training.streaming import StreamTask
from fednano.training.worker import Result, Task

TASK, RESULT, TENSORS, INNER = "fednano.task", "fednano.result", "fednano.core.tensors", "fednano.inner"
AHEAD, STREAM = "fednano.ahead", "fednano.stream"

Direction = Literal["up", "down"]
"""up: the update of a client; down: the weights that the server sends."""


class Unpacked(RecordDict):
    """A task or a result without conversion, for a grid whose apps run in this process and train no tensors."""

    def __init__(self, held: Task | Result) -> None:
        super().__init__()
        self.held = held


def direction_of(content: RecordDict) -> Direction | None:
    """The direction in which a message's tensors travel; None for a result without steps, which has no tensors."""
    if isinstance(content, Unpacked):
        if isinstance(content.held, Task):
            return "down"
        return "up" if content.held.done.steps else None
    result = config_of(content, RESULT)
    if result is None:
        return "down"
    return "up" if result.get("steps") else None


def sent_in(content: RecordDict) -> tuple[int, ...]:
    """The fragments that a task brings."""
    if isinstance(content, Unpacked):
        assert isinstance(content.held, Task) and content.held.stream
        return content.held.stream.sent
    stream = _unpack_stream(content)
    return stream.sent if stream else ()


def fragment_in(content: RecordDict) -> int:
    """The fragment that a result submits."""
    if isinstance(content, Unpacked):
        assert isinstance(content.held, Result)
        return content.held.fragment or 0
    return int(str(_config(content, RESULT)["fragment"]))


def pack_task(task: Task, weights: ArrayRecord) -> RecordDict:
    """A task with packed weights."""
    config = ConfigRecord(
        {
            "client": task.client,
            "round": task.round,
            "version": task.version,
            "lease": task.lease,
            "pool": task.grant.pool,
            "spans": _flat(task.grant.spans),
            "steps": task.steps,
            "tokens_total": task.tokens_total,
            "peers": task.peers,
            "horizon": task.horizon,
            "seconds": task.seconds,
            "token": task.token,
            "whole": task.whole,
        }
    )
    leases = {**_pack_ahead(task.ahead), **_pack_stream(task.stream)}
    return RecordDict({TASK: config, TENSORS: weights, **_pack_inner(task.inner), **leases})


def unpack_task(content: RecordDict, download: Codec) -> tuple[Task, State]:
    """A task and the weights to start from, encoded by `download`. Raises ValueError if the message is malformed."""
    if isinstance(content, Unpacked) and isinstance(content.held, Task):
        return content.held, {}
    c = fields.parsed(_config(content, TASK), TaskFields)
    task = Task(
        client=c.client,
        round=c.round,
        version=c.version,
        lease=c.lease,
        grant=Grant(c.pool, fields.spans_of(c.spans)),
        steps=c.steps,
        tokens_total=c.tokens_total,
        peers=c.peers,
        horizon=c.horizon,
        inner={} if (inner := arrays_of(content, INNER)) is None else unpack_state(inner),
        seconds=c.seconds,
        token=c.token,
        whole=c.whole,
        ahead=_unpack_ahead(content),
        stream=_unpack_stream(content),
    )
    return task, dict(unpack(_arrays(content, TENSORS), download, None))


def pack_result(result: Result, update: ArrayRecord) -> RecordDict:
    """A result with its packed update."""
    done = result.done
    config = ConfigRecord(
        {
            "client": result.task_client,
            "round": result.round,
            "version": result.version,
            "lease": result.lease,
            "steps": done.steps,
            "tokens": done.tokens,
            "loss": done.loss,
            "cursor": list(done.cursor or ()),
            "left": _flat(done.left),
            "drained": done.drained,
            "train_s": done.train_s,
            "data_s": done.data_s,
            "busy_from": result.busy_from,
            "busy_until": result.busy_until,
            "token": result.token,
            "ahead": list(result.ahead),
        }
    )
    if result.fragment is not None:
        config["fragment"] = result.fragment
    return RecordDict({RESULT: config, TENSORS: update, **(_pack_inner(done.inner) if done.steps else {})})


def unpack_result(content: RecordDict, most_left: int = fields.MOST_SPANS) -> Result:
    """A result without its tensors, which may be large; `unpack_update` reads them. Raises ValueError.

    It may leave at most `most_left` spans of its lease untrained.
    """
    if isinstance(content, Unpacked) and isinstance(content.held, Result):
        return content.held
    c = fields.parsed(_config(content, RESULT), ResultFields, most_left)
    if len(c.cursor) == 1:
        raise ValueError(f"a cursor must be a row and a token, got {c.cursor}")
    done = StepsDone(
        steps=c.steps,
        tokens=c.tokens,
        loss=c.loss,
        cursor=(c.cursor[0], c.cursor[1]) if c.cursor else None,
        drained=c.drained,
        train_s=c.train_s,
        data_s=c.data_s,
        left=fields.spans_of(c.left),
    )
    return Result(
        task_client=c.client,
        round=c.round,
        version=c.version,
        lease=c.lease,
        done=done,
        busy_from=c.busy_from,
        busy_until=c.busy_until,
        token=c.token,
        ahead=c.ahead,
        fragment=c.fragment,
    )


def unpack_update(
    content: RecordDict, codec: Codec, expected: Shapes, inner: Shapes
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """The pseudo-gradient (or the weights) and the optimizer state of a result; they may be decoded only when used.

    Raises ValueError, now or while decoding, if either is malformed, or if the names and shapes of the update are not
    `expected`, those of the optimizer state not `inner`.
    """
    if isinstance(content, Unpacked):
        return {}, {}
    if len(content) > MOST_RECORDS:
        raise ValueError(f"a result must have <= {MOST_RECORDS} records, got {len(content)}")
    if more := content.keys() - {RESULT, TENSORS, *([INNER] if inner else [])}:
        raise ValueError(f"a result must not have the records {[brief(name) for name in sorted(more)[:3]]}")
    update = unpack(_arrays(content, TENSORS), codec, expected)
    return update, unpack(_arrays(content, INNER), LOSSLESS, inner) if inner else {}


def config_of(content: RecordDict, name: str) -> ConfigRecord | None:
    """The config record of this name, if a message has one.

    Flower's own way to it, `content.config_records`, goes through all records, and there may be a million.
    """
    record = content.get(name)
    return record if isinstance(record, ConfigRecord) else None


def arrays_of(content: RecordDict, name: str) -> ArrayRecord | None:
    """The array record of this name, if a message has one."""
    record = content.get(name)
    return record if isinstance(record, ArrayRecord) else None


def _config(content: RecordDict, name: str) -> ConfigRecord:
    if (record := config_of(content, name)) is None:
        raise ValueError(f"a message without {name}")
    return record


def _arrays(content: RecordDict, name: str) -> ArrayRecord:
    if (record := arrays_of(content, name)) is None:
        raise ValueError(f"a message without {name}")
    return record


def _pack_inner(inner: State) -> dict[str, ArrayRecord]:
    return {INNER: pack_state(inner)} if inner else {}


def _pack_ahead(ahead: Advance | None) -> dict[str, ConfigRecord]:
    if ahead is None:
        return {}
    grant = ahead.grant
    config = ConfigRecord(
        {
            "lease": ahead.lease,
            "token": ahead.token,
            "pool": grant.pool,
            "spans": _flat(grant.spans),
            "steps": ahead.steps,
        }
    )
    return {AHEAD: config}


def _unpack_ahead(content: RecordDict) -> Advance | None:
    if (record := config_of(content, AHEAD)) is None:
        return None
    c = fields.parsed(record, AheadFields)
    return Advance(c.lease, c.token, Grant(c.pool, fields.spans_of(c.spans)), c.steps)


def _pack_stream(stream: StreamTask | None) -> dict[str, ConfigRecord]:
    if stream is None:
        return {}
    lists = {"sent": list(stream.sent), "holds": list(stream.holds), "gets": list(stream.gets)}
    return {STREAM: ConfigRecord({"due": stream.due, "anew": stream.anew, "forgets": stream.forgets, **lists})}


def _unpack_stream(content: RecordDict) -> StreamTask | None:
    if (record := config_of(content, STREAM)) is None:
        return None
    c = fields.parsed(record, StreamFields)
    return StreamTask(
        due=c.due, sent=tuple(c.sent), anew=c.anew, forgets=c.forgets, holds=tuple(c.holds), gets=tuple(c.gets)
    )


def _flat(spans: Iterable[Span]) -> list[int]:
    return [number for span in spans for number in (span.row, span.token, span.stop)]
