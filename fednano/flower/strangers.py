"""Replies that no honest client sends, and some of an honest size beside them, to measure what they cost the server."""

from collections.abc import Callable
from typing import Any

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from fednano.codec.pair import CodecPair
from fednano.core.tensors import State
from fednano.flower import records
from fednano.flower.compat.live_grid import failed
from fednano.flower.compat.messages import adopt_identity, put_unchecked
from fednano.flower.packed import DATA, HEADER, pack_state
from fednano.training.worker import Result

CODECS = CodecPair()
FULL = ("honest", "every entry is NaN", "every entry is 1e30")
"""The replies that are honest in form: as large as an honest one, and as costly."""

Changes = Callable[[RecordDict], object]


class Strangers:
    """A catalogue of replies by name. Each is made when it is asked for, since some are large.

    Args:
        result: of an honest client.
        update: what it submits.
        many: items of what is too many.
        long: characters of what is too long.
    """

    def __init__(self, result: Result, update: State, many: int = 10**6, long: int = 1 << 26) -> None:
        self._result = result
        self._update = update
        self._many = many
        self._long = "x" * long
        adopt_identity()
        deep = 100_000
        numbers = list(range(many))
        self._changes: dict[str, Changes] = {
            "honest": lambda content: None,
            "every entry is NaN": lambda content: self._filled(content, float("nan")),
            "every entry is 1e30": lambda content: self._filled(content, 1e30),
            "data one number short": lambda content: _arrays(content, data=bytes(self._bytes - 4)),
            "data of two models": lambda content: _arrays(content, data=bytes(2 * self._bytes)),
            "dtype float32": lambda content: _described(content, dtype="float32"),
            "dtype very long": lambda content: _described(content, dtype=self._long),
            "stype very long": lambda content: _described(content, stype=self._long),
            "shape of many sizes": lambda content: _described(content, shape=tuple(numbers)),
            "many arrays": lambda content: _array_of(content).update(self._named(Array("uint8", (1,), "x", b"x"))),
            "header of 300,000 empty entries": lambda content: _arrays(content, _header(b"[]," * 299_999 + b"[]")),
            "header nested too deeply": lambda content: _arrays(content, b"[" * deep),
            "header nested as deeply as it may be long": lambda content: _arrays(content, b"[" * self._header_bytes),
            "header with a size of Infinity": lambda content: _arrays(content, _header(b'["w",[Infinity]]')),
            "header with a size of 1e30": lambda content: _arrays(content, _header(b'["w",[1e30]]')),
            "header of 2^32 by 2^32": lambda content: _arrays(content, _header(b'["w",[4294967296,4294967296]]')),
            "many fields": lambda content: _fields(content, **self._named(1)),
            "many records": lambda content: put_unchecked(content, self._named(ConfigRecord())),
            "cursor of many numbers": lambda content: _fields(content, cursor=numbers),
            "many overlapped steps": lambda content: _fields(content, ahead=[float(n) for n in numbers]),
            "many rows left": lambda content: _fields(content, left=numbers),
            "a list of numbers for one": lambda content: _fields(content, steps=numbers),
            "a list nested deeply": lambda content: _forced(content, left=[_nested(deep)]),
            "client very long": lambda content: _fields(content, client=self._long),
            "token very long": lambda content: _fields(content, token=self._long),
            "name of a field very long": lambda content: _fields(content, **{self._long: 1}),
            "name of a record very long": lambda content: content.update({self._long: ConfigRecord()}),
            "steps and tokens of 2^62": lambda content: _fields(content, steps=2**62, tokens=2**62),
            "cursor at 2^62": lambda content: _fields(content, cursor=[2**62, 2**62]),
            "loss infinite": lambda content: _fields(content, loss=float("inf")),
            "times of 1e308": lambda content: _fields(content, busy_from=-1e308, busy_until=1e308, train_s=1e308),
        }

    @property
    def names(self) -> list[str]:
        return [*self._changes, "error very long"]

    def make(self, name: str) -> Message:
        """The reply of this name."""
        if name == "error very long":
            return failed("task", self._long)
        content = records.pack_result(self._result, pack_state(self._update))
        self._changes[name](content)
        return Message(content, 0, "train")

    @property
    def _bytes(self) -> int:
        """Bytes of an honest update."""
        return sum(4 * tensor.numel() for tensor in self._update.values())

    @property
    def _header_bytes(self) -> int:
        return len(pack_state(self._update)[HEADER].data)

    def _named(self, value: Any) -> dict[str, Any]:
        return {f"key{i}": value for i in range(self._many)}

    def _filled(self, content: RecordDict, value: float) -> None:
        filled = {name: torch.full_like(tensor, value) for name, tensor in self._update.items()}
        content[records.TENSORS] = pack_state(filled)


def _header(entries: bytes) -> bytes:
    """A header with these entries in place of the tensors'."""
    return b'{"version":1,"codec":"fp32","tensors":[' + entries + b"]}"


def _array_of(content: RecordDict) -> ArrayRecord:
    record = content[records.TENSORS]
    assert isinstance(record, ArrayRecord)
    return record


def _arrays(content: RecordDict, header: bytes | None = None, data: bytes | None = None) -> None:
    """Replace the bytes of the header or of the tensors."""
    record = _array_of(content)
    for key, held in ((HEADER, header), (DATA, data)):
        if held is not None:
            record[key] = Array("uint8", (len(held),), record[key].stype, held)


def _described(content: RecordDict, **described: Any) -> None:
    """Describe the tensors otherwise."""
    record = _array_of(content)
    held = record[DATA]
    known = {"dtype": held.dtype, "shape": held.shape, "stype": held.stype, "data": held.data}
    record[DATA] = Array(**known | described)


def _fields(content: RecordDict, **changed: Any) -> None:
    """Replace fields of the result."""
    record = content[records.RESULT]
    assert isinstance(record, ConfigRecord)
    record.update(changed)


def _forced(content: RecordDict, **changed: Any) -> None:
    """Replace fields of the result by values that Flower does not make."""
    put_unchecked(content[records.RESULT], changed)


def _nested(depth: int) -> list[Any]:
    held: list[Any] = []
    for _ in range(depth):
        held = [held]
    return held
