"""Top-k: what is sent, by hand and beside torch, its bound, and forged indices."""

import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.codecs import drawn, floats

from fednano.codec.topk import TopK
from fednano.core.tensors import BLOCK


def through(codec: TopK, values: torch.Tensor) -> torch.Tensor:
    return codec.decode(codec.encode({"a": values}, {}, 0)[0], {"a": tuple(values.shape)})["a"]


def test_bytes_are_those_computed_by_hand() -> None:
    """Indices of four bits, the first ones low; of the last three entries 3·4/16 are sent, rounded up: one."""
    values = torch.tensor([1.0, -4.0, 2.0, 2.0, -2.0, 0.0, 3.0, *[0.5] * 9, 7.0, 6.0, -8.0])
    data, _ = TopK(chunk=16, k=4).encode({"a": values}, {}, 0)
    assert data == bytes([0x21, 0x63, 0x02]) + struct.pack("<5f", -4.0, 2.0, 2.0, 3.0, -8.0)
    data, _ = TopK(chunk=16, k=4, values="int2").encode({"a": values}, {}, 0)
    # Bins of −8, of −4, of 2, and of 2 and 3.
    assert data == bytes([0x21, 0x63, 0x02]) + struct.pack("<4f", -8, -4, 2, 2.5) + bytes([0b11_10_10_01, 0b00])


def test_ties_go_to_the_first() -> None:
    values = torch.tensor([0.0, -1.0, 1.0, 1.0, -1.0] + [0.0] * 11)
    assert through(TopK(chunk=16, k=3), values).tolist() == [0.0, -1.0, 1.0, 1.0] + [0.0] * 12


@given(values=floats(), chunk=st.sampled_from([16, 64, 256]), share=st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_both_kinds_of_values_keep_their_bounds(values: torch.Tensor, chunk: int, share: float) -> None:
    k = max(1, round(share * chunk))
    x = values.double().numpy()
    exact = through(TopK(chunk=chunk, k=k), values).double().numpy()
    coarse = through(TopK(chunk=chunk, k=k, values="int2"), values).double().numpy()
    for at in range(0, len(x), chunk):
        part, got = x[at : at + chunk], exact[at : at + chunk]
        assert ((part - got) ** 2).sum() <= (1 - k / chunk) * (part**2).sum() * (1 + 1e-9)
        assert ((got == part) | (got == 0)).all()
    count = TopK(chunk=chunk, k=k)._kept(len(x))
    sent = exact[exact != 0]
    mean = sent.sum() / max(count, 1)  # zeros may be sent, too
    spread = ((sent - mean) ** 2).sum() + (count - len(sent)) * mean**2
    slack = len(x) ** 0.5 * (np.abs(x).max(initial=0) * 2.0**-22 + 2.0**-148)
    assert np.linalg.norm(x - coarse) <= np.sqrt(((x - exact) ** 2).sum() + spread) + slack


@pytest.mark.parametrize("length", [1, 63, 64, 100, 4096, 5000, BLOCK + 4100])
def test_it_sends_what_torch_finds(length: int) -> None:
    values = drawn(length, length)
    got = through(TopK(chunk=64, k=7), values)
    for at in range(0, length, 64):
        part = values[at : at + 64]
        k = -(-len(part) * 7 // 64)
        expected = torch.zeros_like(part)
        chosen = part.abs().topk(k).indices
        expected[chosen] = part[chosen]
        assert torch.equal(got[at : at + 64], expected)


def test_two_bits_are_those_of_the_value_at_each_place() -> None:
    """Also where a block that is decoded at a time begins within a byte of codes."""
    values = drawn(8, 5 * BLOCK + 100)
    exact, coarse = (through(TopK(chunk=BLOCK, k=3, values=kind), values) for kind in ("fp32", "int2"))
    places = exact != 0
    assert torch.equal(coarse != 0, places)
    levels = coarse[places].unique()
    nearest = (exact[places][:, None] - levels).abs().argmin(1)
    assert len(levels) == 4 and torch.equal(coarse[places], levels[nearest])


def test_indices_take_as_many_bits_as_they_need() -> None:
    """64 of 4096 in 12 bits, with float32 or with 2 bits and four levels for the whole tensor."""
    shapes = {"a": (100, 4096)}
    assert TopK().size(shapes) == 100 * 64 * (12 + 32) // 8
    assert TopK(values="int2").size(shapes) == 100 * 64 * (12 + 2) // 8 + 16
    assert TopK(chunk=BLOCK, k=1).size({"a": ()}) == 2 + 4  # 15 bits, in whole bytes


@pytest.mark.parametrize("values", ["fp32", "int2"])
@pytest.mark.parametrize(
    ("indices", "length", "says"),
    [
        (bytes([0x33]), 16, "must be >= 4 here and < 16, got 3"),  # twice the same
        (bytes([0x13]), 16, "must be >= 4 here and < 16, got 1"),  # descending
        (bytes([0x05]), 5, "must be >= 0 here and < 5, got 5"),  # beyond a chunk's end
    ],
)
def test_forged_indices_are_refused(values: str, indices: bytes, length: int, says: str) -> None:
    codec = TopK(chunk=16, k=2, values=values)
    shapes = {"a": (length,)}
    data = indices + bytes(codec.size(shapes) - len(indices))
    with pytest.raises(ValueError, match=says):
        codec.decode(data, shapes)


def test_the_decay_is_that_of_the_residual() -> None:
    """e = 0.5 · [0, 2, …] + [3, 2, …] sends 3 and keeps 1 + 2; the same again sends 3.5 and keeps 3."""
    codec = TopK(chunk=16, k=1, error_feedback=True, decay=0.5)
    update = {"a": torch.tensor([3.0, 2.0] + [0.0] * 14)}
    shapes = {"a": (16,)}
    sent, kept = [], {"a": torch.tensor([0.0, 2.0] + [0.0] * 14)}
    for _ in range(2):
        data, kept = codec.encode(update, kept, 0)
        sent.append(codec.decode(data, shapes)["a"][:2].tolist())
    assert sent == [[3.0, 0.0], [0.0, 3.5]]
    assert kept["a"][:2].tolist() == [3.0, 0.0]
