"""Tensors in Flower's records: what comes back is what was packed, and what does not fit is refused."""

import json

import pytest
import torch
from flwr.app import Array, ArrayRecord, RecordDict

from fednano.codec.fp32 import Fp32
from fednano.core.tensors import Shapes, State
from fednano.data.ledger import Grant, Span
from fednano.flower import records
from fednano.training.local import StepsDone
from fednano.training.overlap import Advance
from fednano.training.worker import Result, Task

STATE = {"b": torch.tensor([[1.5, -2.0]]), "a": torch.tensor(3.0), "none": torch.zeros(0, 4)}


def test_tensors_come_back_as_they_were() -> None:
    record = records.pack_weights(STATE)
    again = records.unpack_state(record)
    assert list(again) == list(STATE)
    assert all(torch.equal(again[name], STATE[name]) for name in STATE)
    assert len(record) == 2
    assert records.payload_bytes(RecordDict({"x": record, "y": ArrayRecord()})) == 12


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
        content = records.pack_task(task, records.pack_weights(STATE))
        assert records.unpack_task(content)[0] == task
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
        records.unpack_task(content)


def test_no_tensors_are_no_arrays() -> None:
    assert len(records.pack_weights({})) == 0
    assert records.unpack_state(ArrayRecord()) == {}


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
def test_a_layout_that_does_not_fit_is_refused(layout: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        records.unpack_state(packed(json.dumps(layout).encode()))


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

    def decode(self, data: bytes | memoryview, shapes: Shapes) -> State:
        state = super().decode(data, shapes)
        return {name: tensor.double() if self.breaks == "dtype" else tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("breaks", "error", "says"),
    [
        ("type", TypeError, "encode of codec=fp32 must return bytes, got str; "),
        ("size", ValueError, r"encode of codec=fp32 must return at most size\(\)=11 bytes, got 12; "),
    ],
)
def test_a_codec_that_breaks_its_promises_is_named(breaks: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        records.pack_update({"a": torch.ones(3)}, Unsound(breaks), {})


def test_a_codec_that_decodes_other_numbers_than_float32_is_refused() -> None:
    packed_update, _ = records.pack_update({"a": torch.ones(3)}, Fp32(), {})
    content = RecordDict({records.TENSORS: packed_update})
    with pytest.raises(ValueError, match=r"codec=fp32 must decode to float32, got torch\.float64"):
        records._unpacked(content.array_records[records.TENSORS], Unsound("dtype"), "up", {"a": (3,)})


@pytest.mark.parametrize("layout", [b"", b"\xff", b"[" * 100_000])
def test_a_layout_that_is_none_is_refused(layout: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        records.unpack_state(packed(layout))


def test_another_codec_or_a_missing_part_is_refused() -> None:
    with pytest.raises(ValueError, match=r"encoded as fednano\.int8, not as codec=fp32"):
        records.unpack_state(packed(b"[]", "fednano.int8"))
    with pytest.raises(ValueError, match="tensors without"):
        records.unpack_state(ArrayRecord({"data": Array("uint8", (1,), stype="fednano.fp32", data=b"x")}))


def packed(layout: bytes, stype: str = "fednano.fp32") -> ArrayRecord:
    """Twelve bytes behind a layout."""
    return ArrayRecord(
        {
            records.LAYOUT: Array("uint8", (len(layout),), stype=records.LAYOUT_STYPE, data=layout),
            records.DATA: Array("uint8", (12,), stype=stype, data=bytes(12)),
        }
    )
