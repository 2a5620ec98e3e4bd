"""Conversion of tasks and results to Flower records and back. Nothing is pickled: fields are scalars, lists, bytes."""

import json
from collections.abc import Iterable

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fednano.codec.base import Codec, Direction
from fednano.codec.fp32 import Fp32
from fednano.core import tensors
from fednano.core.tensors import Shapes, State
from fednano.data.ledger import Grant, Span
from fednano.training.local import StepsDone
from fednano.training.overlap import Advance
from fednano.training.worker import Result, Task

LAYOUT, DATA, LAYOUT_STYPE = "layout", "data", "fednano.layout"
TASK, RESULT, TENSORS, INNER = "fednano.task", "fednano.result", "fednano.core.tensors", "fednano.inner"
AHEAD = "fednano.ahead"
LOSSLESS = Fp32()


class Unpacked(RecordDict):
    """A task or a result without conversion, for a grid whose apps run in this process and train no tensors."""

    def __init__(self, held: Task | Result) -> None:
        super().__init__()
        self.held = held


def pack_weights(weights: State) -> ArrayRecord:
    """Pack weights for the way down, without loss."""
    return _packed(weights, LOSSLESS, "down", {})[0]


def pack_update(update: State, codec: Codec, kept: State) -> tuple[ArrayRecord, State]:
    """Encode an update for the way up; returns it and the codec state that replaces `kept`."""
    return _packed(update, codec, "up", kept)


def pack_state(state: State) -> ArrayRecord:
    """Pack an optimizer's state without loss: nothing would make up for what a lossy codec drops."""
    return _packed(state, LOSSLESS, "up", {})[0]


def unpack_state(record: ArrayRecord) -> State:
    """The inverse of `pack_weights` and `pack_state`. Raises ValueError for a wrong layout or length."""
    return _unpacked(record, LOSSLESS, "down", None)


def _packed(state: State, codec: Codec, direction: Direction, kept: State) -> tuple[ArrayRecord, State]:
    """Pack all tensors into one array whose `stype` names the codec, with a layout; returns it and the new codec state.

    It is one array because Flower sends each array by separate requests. The layout is JSON: [name, shape] of each
    tensor.
    """
    if not state:
        return ArrayRecord(), kept
    data, kept = _encoded(state, codec, direction, kept)
    layout = json.dumps([[name, list(tensor.shape)] for name, tensor in state.items()]).encode()
    arrays = {
        LAYOUT: Array("uint8", (len(layout),), stype=LAYOUT_STYPE, data=layout),
        DATA: Array("uint8", (len(data),), stype=f"fednano.{codec.name}", data=data),
    }
    return ArrayRecord(arrays), kept


def _encoded(state: State, codec: Codec, direction: Direction, kept: State) -> tuple[bytes, State]:
    """What the codec makes of a state. Raises TypeError or ValueError if the codec does not keep its promises."""
    data, kept = codec.encode(state, direction, kept)
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(
            f"encode of codec={codec.name} must return bytes, got {type(data).__name__}; correct its method"
        )
    most = codec.size(tensors.shapes(state), direction)
    if len(data) > most:
        raise ValueError(
            f"encode of codec={codec.name} must return at most size()={most} bytes, got {len(data)}; correct one"
        )
    return bytes(data), kept


def _unpacked(record: ArrayRecord, codec: Codec, direction: Direction, expected: Shapes | None) -> State:
    """The inverse of `_packed`. Raises ValueError for another codec's arrays, or a wrong layout or length."""
    if not record:
        return {}
    try:
        layout, data = record[LAYOUT], record[DATA]
    except KeyError as error:
        raise ValueError(f"tensors without {error.args[0]}") from error
    if data.stype != f"fednano.{codec.name}":
        raise ValueError(f"tensors are encoded as {data.stype}, not as codec={codec.name}")
    shapes = _layout(layout.data)
    if expected is not None and shapes != expected:  # checked before tensors of these sizes are allocated
        raise ValueError("an update has other tensors than the global model")
    try:
        state = codec.decode(memoryview(data.data), shapes, direction)
    except Exception as error:  # bytes from a stranger may make a codec raise anything
        raise ValueError(f"codec={codec.name} cannot decode these tensors: {error}") from error
    if tensors.shapes(state) != shapes:
        raise ValueError(f"codec={codec.name} decoded other tensors than those in the layout")
    if other := next((tensor.dtype for tensor in state.values() if tensor.dtype != torch.float32), None):
        raise ValueError(f"codec={codec.name} must decode to float32, got {other}")
    return state


def _layout(data: bytes) -> dict[str, tuple[int, ...]]:
    try:
        entries = [(str(name), tuple(int(n) for n in shape)) for name, shape in json.loads(data)]
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"the layout of tensors cannot be read ({error})") from error
    shapes = dict(entries)
    if len(shapes) < len(entries) or any(n < 0 for shape in shapes.values() for n in shape):
        raise ValueError("the layout names a tensor twice, or has a negative size")
    return shapes


def payload_bytes(content: RecordDict) -> int:
    """Bytes of the encoded tensors in a message."""
    return sum(len(record[DATA].data) for record in content.array_records.values() if DATA in record)


def direction_of(content: RecordDict) -> Direction | None:
    """The direction in which a message's tensors travel; None for a result without steps, which has no tensors."""
    if isinstance(content, Unpacked):
        if isinstance(content.held, Task):
            return "down"
        return "up" if content.held.done.steps else None
    if RESULT not in content.config_records:
        return "down"
    return "up" if content.config_records[RESULT]["steps"] else None


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
    """A task and the weights to start from. Raises KeyError or ValueError if the message is malformed."""
    if isinstance(content, Unpacked) and isinstance(content.held, Task):
        return content.held, {}
    c = content.config_records[TASK]
    task = Task(
        client=str(c["client"]),
        round=_int(c, "round"),
        version=_int(c, "version"),
        lease=_int(c, "lease"),
        grant=Grant(_int(c, "pool"), _spans(c, "spans")),
        steps=_int(c, "steps"),
        tokens_total=_int(c, "tokens_total"),
        peers=_int(c, "peers"),
        horizon=_int(c, "horizon"),
        inner=unpack_inner(content),
        seconds=_float(c, "seconds"),
        token=str(c["token"]),
        whole=bool(c["whole"]),
        ahead=_unpack_ahead(content),
    )
    return task, unpack_state(content.array_records[TENSORS])


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


def unpack_result(content: RecordDict) -> Result:
    """A result without its tensors, which may be large; `unpack_update` reads them. Raises KeyError or ValueError."""
    if isinstance(content, Unpacked) and isinstance(content.held, Result):
        return content.held
    c = content.config_records[RESULT]
    cursor = _ints(c, "cursor")
    done = StepsDone(
        steps=_int(c, "steps"),
        tokens=_int(c, "tokens"),
        loss=_float(c, "loss"),
        cursor=(cursor[0], cursor[1]) if cursor else None,
        drained=bool(c["drained"]),
        train_s=_float(c, "train_s"),
        data_s=_float(c, "data_s"),
        left=_spans(c, "left"),
    )
    return Result(
        task_client=str(c["client"]),
        round=_int(c, "round"),
        version=_int(c, "version"),
        lease=_int(c, "lease"),
        done=done,
        busy_from=_float(c, "busy_from"),
        busy_until=_float(c, "busy_until"),
        token=str(c["token"]),
        ahead=_floats(c, "ahead"),
    )


def unpack_update(content: RecordDict, codec: Codec, expected: Shapes) -> tuple[State, State]:
    """The pseudo-gradient (or the weights) and the optimizer state of a result.

    Raises KeyError or ValueError if either is malformed, or if the update's names and shapes are not `expected`.
    """
    if isinstance(content, Unpacked):
        return {}, {}
    return _unpacked(content.array_records[TENSORS], codec, "up", expected), unpack_inner(content)


def unpack_inner(content: RecordDict) -> State:
    """The optimizer state in a message; empty if there is none. Raises ValueError if it is malformed."""
    return unpack_state(content.array_records[INNER]) if INNER in content.array_records else {}


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
    if AHEAD not in content.config_records:
        return None
    c = content.config_records[AHEAD]
    return Advance(_int(c, "lease"), str(c["token"]), Grant(_int(c, "pool"), _spans(c, "spans")), _int(c, "steps"))


def _int(record: ConfigRecord, key: str) -> int:
    value = record[key]
    if not isinstance(value, int):
        raise ValueError(f"field {key} of a message is {value!r}, not an integer")
    return value


def _float(record: ConfigRecord, key: str) -> float:
    value = record[key]
    if not isinstance(value, float):
        raise ValueError(f"field {key} of a message is {value!r}, not a number")
    return value


def _floats(record: ConfigRecord, key: str) -> tuple[float, ...]:
    value = record[key]
    if not isinstance(value, list) or not all(isinstance(item, float) for item in value):
        raise ValueError(f"field {key} of a message is {value!r}, not a list of numbers")
    return tuple(float(item) for item in value)


def _ints(record: ConfigRecord, key: str) -> list[int]:
    value = record[key]
    if not isinstance(value, list) or not all(isinstance(item, int) for item in value):
        raise ValueError(f"field {key} of a message is {value!r}, not a list of integers")
    return [int(item) for item in value]


def _flat(spans: Iterable[Span]) -> list[int]:
    return [number for span in spans for number in (span.row, span.token, span.stop)]


def _spans(record: ConfigRecord, key: str) -> tuple[Span, ...]:
    flat = _ints(record, key)
    if len(flat) % 3:
        raise ValueError(f"field {key} of a message has {len(flat)} numbers, not three for each span")
    return tuple(Span(*flat[i : i + 3]) for i in range(0, len(flat), 3))
