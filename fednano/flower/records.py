"""Tasks and results as Flower records, and back. Nothing is pickled: fields are scalars, lists or bytes."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, Metadata, RecordDict
from torch import Tensor

from fednano.codec.fp32 import Fp32
from fednano.core.tensors import State
from fednano.data.ledger import Grant, Span
from fednano.training.local import StepsDone
from fednano.training.overlap import Advance
from fednano.training.worker import Result, Task

LAYOUT, DATA, LAYOUT_STYPE = "layout", "data", "fednano.layout"
TASK, RESULT, TENSORS, INNER = "fednano.task", "fednano.result", "fednano.core.tensors", "fednano.inner"
AHEAD = "fednano.ahead"
LOSSLESS = Fp32()  # optimizer states are no updates: what a codec drops of them is not made up for


class Unpacked(RecordDict):
    """A task or a result as it is, for a grid whose apps run in this process and train no tensors."""

    def __init__(self, held: Task | Result) -> None:
        super().__init__()
        self.held = held


class Local(Message):
    """A message within this process, made without the checks and the time stamps of one that travels."""

    def __init__(self, content: Unpacked, metadata: Metadata) -> None:
        metadata.delivered_at = ""  # as Flower has it
        vars(self).update(_content=content, _error=None, _metadata=metadata)

    @classmethod
    def reply(cls, content: Unpacked, to: Message) -> "Local":
        asked = to.metadata
        there, back = asked.src_node_id, asked.dst_node_id
        sent, ttl, kind = asked.created_at, asked.ttl, asked.message_type
        return cls(content, Metadata(asked.run_id, "", back, there, asked.message_id, asked.group_id, sent, ttl, kind))


class Codec(Protocol):
    """A `codec` choice: tensor ↔ bytes."""

    @property
    def name(self) -> str: ...

    def size(self, numbers: int) -> int: ...

    def encode(self, tensor: Tensor) -> bytes: ...

    def decode(self, data: bytes | memoryview, shape: tuple[int, ...]) -> Tensor: ...


def pack_tensors(state: Mapping[str, Tensor], codec: Codec) -> ArrayRecord:
    """All tensors, one after the other, as one array whose `stype` names the codec, and a layout beside it.

    Flower sends each array by requests of its own. The layout is JSON: [name, shape, encoded bytes] of each tensor.
    """
    if not state:
        return ArrayRecord()
    encoded = {name: codec.encode(tensor) for name, tensor in state.items()}
    layout = json.dumps([[name, list(state[name].shape), len(each)] for name, each in encoded.items()]).encode()
    data = b"".join(encoded.values())
    return ArrayRecord(
        {
            LAYOUT: Array("uint8", (len(layout),), stype=LAYOUT_STYPE, data=layout),
            DATA: Array("uint8", (len(data),), stype=f"fednano.{codec.name}", data=data),
        }
    )


def unpack_tensors(record: ArrayRecord, codec: Codec) -> State:
    """The inverse of `pack_tensors`. Raises ValueError for another codec's arrays, a wrong layout or a wrong length."""
    if not record:
        return {}
    try:
        layout, data = record[LAYOUT], record[DATA]
    except KeyError as error:
        raise ValueError(f"tensors without {error.args[0]}") from error
    if data.stype != f"fednano.{codec.name}":
        raise ValueError(f"tensors are encoded as {data.stype}, not as codec={codec.name}")
    state, at, view = {}, 0, memoryview(data.data)
    for name, shape, size in _layout(layout.data):
        state[name] = codec.decode(view[at : at + size], shape)
        at += size
    if at != len(view):
        raise ValueError(f"tensors have {len(view)} bytes, but a layout of {at}")
    return state


def _layout(data: bytes) -> Iterator[tuple[str, tuple[int, ...], int]]:
    try:
        listed = json.loads(data)
        entries = [(str(name), tuple(int(n) for n in shape), int(size)) for name, shape, size in listed]
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"the layout of tensors cannot be read ({error})") from error
    if len({name for name, _, _ in entries}) < len(entries) or any(
        n < 0 for _, shape, s in entries for n in (*shape, s)
    ):
        raise ValueError("the layout of tensors names one twice, or a size below 0")
    yield from entries


def payload_bytes(content: RecordDict) -> int:
    """Bytes of the encoded tensors in a message."""
    return sum(len(record[DATA].data) for record in content.array_records.values() if DATA in record)


def carries_weights(content: RecordDict) -> bool:
    """Whether a message stands for a whole set of tensors: every task does, and every result with steps."""
    if isinstance(content, Unpacked):
        return isinstance(content.held, Task) or bool(content.held.done.steps)
    return RESULT not in content.config_records or bool(content.config_records[RESULT]["steps"])


def pack_task(task: Task, weights: ArrayRecord) -> RecordDict:
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


def hold_task(task: Task, weights: ArrayRecord) -> RecordDict:
    """In the place of `pack_task` where `weights` are none."""
    return Unpacked(task)


def unpack_task(content: RecordDict, codec: Codec) -> tuple[Task, State]:
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
    return task, unpack_tensors(content.array_records[TENSORS], codec)


def pack_result(result: Result, delta: ArrayRecord) -> RecordDict:
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
    return RecordDict({RESULT: config, TENSORS: delta, **(_pack_inner(done.inner) if done.steps else {})})


def unpack_result(content: RecordDict) -> Result:
    """The result without its tensors, which may be large: `unpack_tensors` reads them once they are wanted."""
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


def unpack_update(content: RecordDict, codec: Codec) -> tuple[State, State]:
    """The pseudo-gradient (or the weights) and the optimizer state of a result. Raises as `unpack_tensors` does."""
    if isinstance(content, Unpacked):
        return {}, {}
    return unpack_tensors(content.array_records[TENSORS], codec), unpack_inner(content)


def unpack_inner(content: RecordDict) -> State:
    """The optimizer state in a message; empty where none travels. Raises as `unpack_tensors` does."""
    return unpack_tensors(content.array_records[INNER], LOSSLESS) if INNER in content.array_records else {}


def _pack_inner(inner: State) -> dict[str, ArrayRecord]:
    return {INNER: pack_tensors(inner, LOSSLESS)} if inner else {}


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
