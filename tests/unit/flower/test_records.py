"""Tensors in Flower's records: what comes back is what was packed, and what does not fit is refused."""

import json
from collections.abc import Iterator

import pytest
import torch
from flwr.app import Array, ArrayRecord, RecordDict

from fednano.codec.base import Codec
from fednano.codec.fp32 import Fp32
from fednano.core import tensors
from fednano.core.tensors import Shapes, State, TensorBlock
from fednano.data.ledger import Grant, Span
from fednano.flower import records
from fednano.flower.packed import DATA, HEADER, LOSSLESS, STYPES, pack, pack_state, payload_bytes, unpack, unpack_state
from fednano.training.local import StepsDone
from fednano.training.overlap import Advance
from fednano.training.worker import Result, Task

STATE = {"b": torch.tensor([[1.5, -2.0]]), "a": torch.tensor(3.0), "none": torch.zeros(0, 4)}


def test_tensors_come_back_as_they_were() -> None:
    record = pack_state(STATE)
    again = unpack_state(record)
    assert list(again) == list(STATE)
    assert all(torch.equal(again[name], STATE[name]) for name in STATE)
    assert len(record) == 2
    assert payload_bytes(RecordDict({"x": record, "y": ArrayRecord()})) == 12


def test_the_order_of_tensors_is_the_senders() -> None:
    state = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0])}
    expected = {"b": (2,), "a": (2,)}
    again = unpack(pack_state(state), LOSSLESS, expected)
    assert {name: again[name].tolist() for name in expected} == {"a": [1.0, 2.0], "b": [3.0, 4.0]}


def test_tasks_and_results_come_back_as_they_were() -> None:
    grant = Grant(3, (Span(1, 2, 9), Span(12, 0, 14)))
    for ahead in (None, Advance(8, "secret", Grant(3, (Span(14, 0, 30),)), 5)):
        task = Task(
            client="a",
            round=1,
            version=2,
            lease=7,
            grant=grant,
            steps=4,
            tokens_total=100,
            peers=3,
            horizon=9000,
            inner={},
            seconds=60.5,
            token="token",
            whole=True,
            ahead=ahead,
        )
        content = records.pack_task(task, pack_state(STATE))
        assert records.unpack_task(content, LOSSLESS)[0] == task
    done = StepsDone(
        steps=4, tokens=128, loss=1.5, cursor=(12, 1), drained=False, train_s=2.5, data_s=0.5, left=(Span(3, 0, 4),)
    )
    for took in ((), (-4.5, -1.0)):
        result = Result(
            task_client="a",
            round=1,
            version=2,
            lease=7,
            done=done,
            busy_from=0.0,
            busy_until=3.0,
            token="token",
            ahead=took,
        )
        assert records.unpack_result(records.pack_result(result, ArrayRecord())) == result


@pytest.mark.parametrize("field", ["lease", "token", "pool", "spans", "steps"])
def test_a_lease_ahead_without_a_field_is_refused(field: str) -> None:
    task = Task(
        client="a",
        round=1,
        version=2,
        lease=7,
        grant=Grant(0, ()),
        steps=4,
        tokens_total=100,
        peers=3,
        horizon=9000,
        ahead=Advance(8, "secret", Grant(0, ()), 5),
    )
    content = records.pack_task(task, ArrayRecord())
    del content.config_records[records.AHEAD][field]
    with pytest.raises(ValueError, match=f"missing required field `{field}`"):
        records.unpack_task(content, LOSSLESS)


def test_no_tensors_are_no_arrays() -> None:
    assert len(pack_state({})) == 0
    assert unpack_state(ArrayRecord()) == {}


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        ([["a", [2]]], "must have <= 8 bytes for these shapes, got 12"),
        ([["a", [2]], ["b", [2]]], "must have 16 bytes for these shapes, got 12"),
        ([["a", [3]], ["a", [0]]], "names a tensor twice"),
        ([["a", [-1, -3]]], "cannot be read"),
        ([["a"]], "cannot be read"),
        ([["a", 3]], "cannot be read"),
        (7, "cannot be read"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(layout: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        unpack_state(packed(header(layout)))


class Unsound(Fp32):
    """A codec that breaks one of a codec's promises."""

    def __init__(self, breaks: str) -> None:
        super().__init__()
        self.breaks = breaks

    def encode(self, tensors: State, kept: State, seed: int) -> tuple[bytes, State]:
        data, kept = super().encode(tensors, kept, seed)
        return ("text" if self.breaks == "type" else data), kept  # type: ignore[return-value]

    def size(self, shapes: Shapes) -> int:
        return super().size(shapes) - (self.breaks == "size")

    def blocks(self, data: bytes | memoryview, shapes: Shapes) -> Iterator[TensorBlock]:
        for block in super().blocks(data, shapes):
            match self.breaks:
                case "dtype":
                    yield block._replace(values=block.values.double())
                case "start":
                    yield block._replace(start=block.start + 1)
                case "name":
                    yield block._replace(name="c")
                case "less":
                    yield block._replace(values=block.values[:-1])
                case "more":
                    yield from (block, block)
                case _:
                    yield block


class Whole:
    """A codec without blocks, which may break one of a codec's promises."""

    lossless, name = True, "fp32"

    def __init__(self, breaks: str = "") -> None:
        self.breaks = breaks

    def size(self, shapes: Shapes) -> int:
        return LOSSLESS.size(shapes)

    def encode(self, tensors: State, kept: State, seed: int) -> tuple[bytes, State]:
        return LOSSLESS.encode(tensors, kept, seed)

    def decode(self, data: bytes | memoryview, shapes: Shapes) -> State:
        state = LOSSLESS.decode(data, shapes)
        match self.breaks:
            case "dtype":
                return {name: tensor.double() for name, tensor in state.items()}
            case "name":
                return {}
            case "error":
                raise KeyError("lost")
        return state


@pytest.mark.parametrize(
    ("breaks", "error", "says"),
    [
        ("type", TypeError, "encode of codec=fp32 must return bytes, got str; "),
        ("size", ValueError, r"encode of codec=fp32 must return at most size\(\)=11 bytes, got 12; "),
    ],
)
def test_a_codec_that_breaks_its_promises_is_named(breaks: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        pack({"a": torch.ones(3)}, Unsound(breaks), {}, 0)


GAPS = "must decode to the tensors in the header, without gaps"


@pytest.mark.parametrize(
    ("codec", "says"),
    [
        (Unsound("dtype"), r"must decode to float32, got torch\.float64"),
        (Unsound("start"), GAPS),
        (Unsound("more"), GAPS),
        (Unsound("name"), GAPS),
        (Unsound("less"), GAPS),
        (Whole("dtype"), r"must decode to float32, got torch\.float64"),
        (Whole("name"), "decoded other tensors than those in the header"),
        (Whole("error"), "cannot decode these tensors: 'lost'"),
    ],
)
def test_a_codec_that_decodes_something_else_is_refused(codec: Codec, says: str) -> None:
    state = {"a": torch.ones(2, 2), "none": torch.zeros(0, 4), "b": torch.ones(3)}
    record = pack_state(state)
    assert tensors.norm(unpack(record, Whole(), tensors.shapes(state))) == tensors.norm(state)
    with pytest.raises(ValueError, match=says):
        tensors.norm(unpack(record, codec, tensors.shapes(state)))


@pytest.mark.parametrize("held", [b"", b"\xff", b"[" * 100_000, b"[]", b"{}"])
def test_a_header_that_is_none_is_refused(held: bytes) -> None:
    with pytest.raises(ValueError, match="the header of tensors cannot be read"):
        unpack_state(packed(held))


def test_another_codec_another_version_or_a_missing_part_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be encoded by codec=fp32 in version 1, got int8 in version 1"):
        unpack_state(packed(header([], codec="int8")))
    with pytest.raises(ValueError, match=r"must be encoded by codec=fp32 in version 1, got fp32 in version 2"):
        unpack_state(packed(header([], version=2)))
    with pytest.raises(ValueError, match="tensors without header"):
        unpack_state(ArrayRecord({DATA: Array("uint8", (1,), stype=STYPES[DATA], data=b"x")}))


def header(tensors: object, codec: str = "fp32", version: int = 1) -> bytes:
    return json.dumps({"version": version, "codec": codec, "tensors": tensors}).encode()


def packed(held: bytes) -> ArrayRecord:
    """Twelve bytes behind a header."""
    return ArrayRecord(
        {
            HEADER: Array("uint8", (len(held),), stype=STYPES[HEADER], data=held),
            DATA: Array("uint8", (12,), stype=STYPES[DATA], data=bytes(12)),
        }
    )
