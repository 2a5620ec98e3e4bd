"""Conversion of tasks and results to Flower records and back. Nothing is pickled: fields are scalars, lists, bytes."""

from collections.abc import Iterable
from itertools import islice
from typing import Literal

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fednano.codec.base import Codec
from fednano.codec.fp32 import Fp32
from fednano.core import tensors
from fednano.core.tensors import Shapes, State
from fednano.core.text import brief
from fednano.data.ledger import Grant, Span
from fednano.flower import fields
from fednano.flower.fields import AheadFields, ResultFields, TaskFields
from fednano.training.local import StepsDone
from fednano.training.overlap import Advance
from fednano.training.worker import Result, Task

LAYOUT, DATA, LAYOUT_STYPE = "layout", "data", "fednano.layout"
TASK, RESULT, TENSORS, INNER = "fednano.task", "fednano.result", "fednano.core.tensors", "fednano.inner"
AHEAD = "fednano.ahead"
MOST_RECORDS = 8  # of a message; more are not looked at
LOSSLESS = Fp32()

Direction = Literal["up", "down"]
"""up: the update of a client; down: the weights that the server sends."""


class Unpacked(RecordDict):
    """A task or a result without conversion, for a grid whose apps run in this process and train no tensors."""

    def __init__(self, held: Task | Result) -> None:
        super().__init__()
        self.held = held


def pack_weights(weights: State) -> ArrayRecord:
    """Pack weights for the way down, without loss."""
    return _packed(weights, LOSSLESS, {})[0]


def pack_update(update: State, codec: Codec, kept: State) -> tuple[ArrayRecord, State]:
    """Encode an update for the way up; returns it and the codec state that replaces `kept`."""
    return _packed(update, codec, kept)


def pack_state(state: State) -> ArrayRecord:
    """Pack an optimizer's state without loss: nothing would make up for what a lossy codec drops."""
    return _packed(state, LOSSLESS, {})[0]


def unpack_state(record: ArrayRecord) -> State:
    """The inverse of `pack_weights` and `pack_state`. Raises ValueError for a wrong layout or length."""
    return _unpacked(record, LOSSLESS, None)


def _packed(state: State, codec: Codec, kept: State) -> tuple[ArrayRecord, State]:
    """Pack all tensors into one array whose `stype` names the codec, with a layout; returns it and the new codec state.

    It is one array because Flower sends each array by separate requests.
    """
    if not state:
        return ArrayRecord(), kept
    data, kept = _encoded(state, codec, kept)
    layout = fields.layout_bytes(tensors.shapes(state))
    arrays = {
        LAYOUT: Array("uint8", (len(layout),), stype=LAYOUT_STYPE, data=layout),
        DATA: Array("uint8", (len(data),), stype=f"fednano.{codec.name}", data=data),
    }
    return ArrayRecord(arrays), kept


def _encoded(state: State, codec: Codec, kept: State) -> tuple[bytes, State]:
    """What the codec makes of a state. Raises TypeError or ValueError if the codec does not keep its promises."""
    data, kept = codec.encode(state, kept, 0)
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(
            f"encode of codec={codec.name} must return bytes, got {type(data).__name__}; correct its method"
        )
    most = codec.size(tensors.shapes(state))
    if len(data) > most:
        raise ValueError(
            f"encode of codec={codec.name} must return at most size()={most} bytes, got {len(data)}; correct one"
        )
    return bytes(data), kept


def _unpacked(record: ArrayRecord, codec: Codec, expected: Shapes | None) -> State:
    """The inverse of `_packed`. Raises ValueError for another codec's arrays, or a wrong layout or length.

    Nothing is parsed or allocated that is larger than the `expected` tensors need, if these are known.
    """
    if not record:
        if expected:
            raise ValueError(f"an update must hold {len(expected)} tensors, got none")
        return {}
    if len(record) > 2:
        raise ValueError(f"tensors must come in the arrays {LAYOUT} and {DATA}, got {len(record)} arrays")
    layout = _bytes_in(record, LAYOUT, LAYOUT_STYPE)
    data = _bytes_in(record, DATA, f"fednano.{codec.name}")
    if expected is None:
        shapes = fields.shapes_of(layout)
    else:
        shapes = fields.shapes_of(layout, 2 * len(fields.layout_bytes(expected)))  # JSON may be spaced out
        if shapes != expected:
            raise ValueError("an update has other tensors than the global model")
    if len(data) > (most := codec.size(shapes)):
        raise ValueError(f"codec={codec.name} must have <= {most} bytes for these shapes, got {len(data)}")
    try:
        state = codec.decode(memoryview(data), shapes)
    except Exception as error:  # bytes from a stranger may make a codec raise anything
        raise ValueError(f"codec={codec.name} cannot decode these tensors: {error}") from error
    if tensors.shapes(state) != shapes:
        raise ValueError(f"codec={codec.name} decoded other tensors than those in the layout")
    if other := next((tensor.dtype for tensor in state.values() if tensor.dtype != torch.float32), None):
        raise ValueError(f"codec={codec.name} must decode to float32, got {other}")
    return state


def _bytes_in(record: ArrayRecord, key: str, stype: str) -> bytes:
    """The bytes of one array, which must be described as such. Raises ValueError if it is missing or something else."""
    if key not in record:
        raise ValueError(f"tensors without {key}")
    array = record[key]
    if array.stype != stype:
        if key == DATA:
            encoded = brief(array.stype)
            raise ValueError(f"tensors are encoded as {encoded}, not as codec={stype.removeprefix('fednano.')}")
        raise ValueError(f"array {key} must be of stype {stype}, got {brief(array.stype)}")
    if not isinstance(array.data, bytes) or (array.dtype, array.shape) != ("uint8", (len(array.data),)):
        held = f"{brief(array.dtype)} of shape {brief(array.shape)}"
        raise ValueError(f"array {key} must hold bytes as uint8, got {held}")
    return array.data


def payload_bytes(content: RecordDict) -> int:
    """Bytes of the encoded tensors in a message."""
    few = islice(content.values(), MOST_RECORDS)
    return sum(len(record[DATA].data) for record in few if isinstance(record, ArrayRecord) and DATA in record)


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
    return RecordDict({TASK: config, TENSORS: weights, **_pack_inner(task.inner), **_pack_ahead(task.ahead)})


def unpack_task(content: RecordDict) -> tuple[Task, State]:
    """A task and the weights to start from. Raises ValueError if the message is malformed."""
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
    )
    return task, unpack_state(_arrays(content, TENSORS))


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
    )


def unpack_update(content: RecordDict, codec: Codec, expected: Shapes, inner: Shapes) -> tuple[State, State]:
    """The pseudo-gradient (or the weights) and the optimizer state of a result.

    Raises ValueError if either is malformed, or if the names and shapes of the update are not `expected`, those of the
    optimizer state not `inner`.
    """
    if isinstance(content, Unpacked):
        return {}, {}
    if len(content) > MOST_RECORDS:
        raise ValueError(f"a result must have <= {MOST_RECORDS} records, got {len(content)}")
    if more := content.keys() - {RESULT, TENSORS, *([INNER] if inner else [])}:
        raise ValueError(f"a result must not have the records {[brief(name) for name in sorted(more)[:3]]}")
    update = _unpacked(_arrays(content, TENSORS), codec, expected)
    return update, _unpacked(_arrays(content, INNER), LOSSLESS, inner) if inner else {}


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


def _flat(spans: Iterable[Span]) -> list[int]:
    return [number for span in spans for number in (span.row, span.token, span.stop)]
