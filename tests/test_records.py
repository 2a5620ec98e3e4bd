"""Tensors in Flower's records: what comes back is what was packed, and what does not fit is refused."""

import json

import pytest
import torch
from flwr.app import Array, ArrayRecord, RecordDict

from fednano.codec.fp32 import Fp32
from fednano.flower import records

STATE = {"b": torch.tensor([[1.5, -2.0]]), "a": torch.tensor(3.0), "none": torch.zeros(0, 4)}


def test_tensors_come_back_as_they_were() -> None:
    record = records.pack_tensors(STATE, Fp32())
    again = records.unpack_tensors(record, Fp32())
    assert list(again) == list(STATE)
    assert all(torch.equal(again[name], STATE[name]) for name in STATE)
    assert len(record) == 2
    assert records.payload_bytes(RecordDict({"x": record, "y": ArrayRecord()})) == 12


def test_no_tensors_are_no_arrays() -> None:
    assert len(records.pack_tensors({}, Fp32())) == 0
    assert records.unpack_tensors(ArrayRecord(), Fp32()) == {}


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        ([["a", [2], 8]], "have 12 bytes, but a layout of 8"),
        ([["a", [2], 8], ["b", [2], 8]], r"shape \(2,\) needs 8 bytes, but 4 came"),
        ([["a", [3], 12], ["a", [0], 0]], "names one twice"),
        ([["a", [-1, -3], 12]], "a size below 0"),
        ([["a", [3], 12], ["b", [0], -4]], "a size below 0"),
        ([["a", [3]]], "cannot be read"),
        ([["a", 3, 12]], "cannot be read"),
        (7, "cannot be read"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(layout: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        records.unpack_tensors(packed(json.dumps(layout).encode()), Fp32())


@pytest.mark.parametrize("layout", [b"", b"\xff", b"[" * 100_000])
def test_a_layout_that_is_none_is_refused(layout: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        records.unpack_tensors(packed(layout), Fp32())


def test_another_codec_or_a_missing_part_is_refused() -> None:
    with pytest.raises(ValueError, match=r"encoded as fednano\.int8, not as codec=fp32"):
        records.unpack_tensors(packed(b"[]", "fednano.int8"), Fp32())
    with pytest.raises(ValueError, match="tensors without"):
        records.unpack_tensors(ArrayRecord({"data": Array("uint8", (1,), stype="fednano.fp32", data=b"x")}), Fp32())


def packed(layout: bytes, stype: str = "fednano.fp32") -> ArrayRecord:
    """Twelve bytes behind a layout."""
    return ArrayRecord(
        {
            records.LAYOUT: Array("uint8", (len(layout),), stype=records.LAYOUT_STYPE, data=layout),
            records.DATA: Array("uint8", (12,), stype=stype, data=bytes(12)),
        }
    )
