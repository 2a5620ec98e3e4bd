"""Quantization in blocks: levels by hand, error bounds, stochastic rounding."""

import hashlib
import struct
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.codecs import drawn, floats

from fednano.codec.blockwise import Quantized
from fednano.core.tensors import BLOCK, norm

EACH = pytest.mark.parametrize("bits", [2, 4, 8])


def codec(bits: Any, **keys: Any) -> Quantized:
    return Quantized(name=f"int{bits}", bits=bits, **keys)


def through(one: Quantized, values: torch.Tensor, seed: int = 0) -> np.ndarray:
    data, _ = one.encode({"a": values}, {}, seed)
    return one.decode(data, {"a": tuple(values.shape)})["a"].double().numpy()


def pieces(block: int, *arrays: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    return [tuple(array[at : at + block] for array in arrays) for at in range(0, len(arrays[0]), block)]


def steps(bits: int) -> int:
    return 3 if bits == 2 else 2**bits - 2


@EACH
@given(values=floats(), block=st.sampled_from([16, 64, 256]), seed=st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_evenly_spaced_levels_keep_their_bound(bits: int, values: torch.Tensor, block: int, seed: int) -> None:
    exact = values.double().numpy()
    nearest = through(codec(bits, block=block), values)
    random = through(codec(bits, block=block, rounding="stochastic"), values, seed)
    for x, near, one in pieces(block, exact, nearest, random):
        bound = np.abs(x).max() / steps(bits) * (1 + 2.0**-13) + 2.0**-149
        assert (np.abs(x - near) <= bound).all()
        assert (np.abs(x - one) <= 2 * bound).all()
        if bits > 2:
            assert (np.abs(x - near) <= np.abs(x) * (1 + 2.0**-12) + 2.0**-149).all()
        assert (np.abs(near) <= np.abs(x).max()).all() and (np.abs(one) <= np.abs(x).max()).all()


@EACH
@given(values=floats(most=4200))
@settings(max_examples=40, deadline=None)
def test_quantile_levels_keep_their_bound(bits: int, values: torch.Tensor) -> None:
    exact = values.double().numpy()
    got = through(codec(bits, levels="quantile", block=4096), values)
    for x, near in pieces(4096, exact, got):
        most = np.abs(x).max()
        bins = np.array_split(np.sort(x), 2**bits)  # of the same sizes, in another order, when they do not divide
        by_bins = np.sqrt(sum(((part - part.mean()) ** 2).sum() for part in bins if part.size))
        slack = np.sqrt(len(x)) * (most * 2.0**-22 + 2.0**-148)
        error = np.linalg.norm(x - near)
        assert error <= np.linalg.norm(x - x.mean()) + slack
        if len(x) % 2**bits == 0:
            assert error <= by_bins + slack


@EACH
def test_no_level_is_nearer_than_the_one_taken(bits: int) -> None:
    length = 2 * BLOCK + 4300
    values = drawn(1, length) * torch.linspace(0.1, 10.0, length)  # so that each block needs its own levels
    for one, block in ((codec(bits), 256), (codec(bits, levels="quantile", block=4096), 4096)):
        got = through(one, values)
        for x, near in pieces(block, values.double().numpy(), got):
            levels = np.unique(near)
            assert len(levels) <= 2**bits
            assert (np.abs(x - near) <= np.abs(x[:, None] - levels).min(1) + np.abs(x).max() * 2.0**-20).all()


def test_bytes_are_those_computed_by_hand() -> None:
    """Scales first, then codes. At 2 bits −3 … 3 has the levels −3, −1, 1, 3; at 4 bits, 7 has −7, −6, …, 7."""
    two = torch.tensor([3.0, -3.0, 0.9, 1.1, -0.1, -1.4, 0.0])
    data, _ = codec(2, block=16).encode({"a": two}, {}, 0)
    assert data == struct.pack("<f", 3.0) + bytes([0b10_10_00_11, 0b10_01_01])
    four = torch.tensor([7.0, -7.0, 2.4, -2.6, 0.4] + [0.0] * 11 + [-0.5])
    data, _ = codec(4, block=16).encode({"a": four}, {}, 0)
    assert data == struct.pack("<ff", 7.0, 0.5) + bytes([0x0E, 0x49, *[0x77] * 6, 0x00])
    eight = torch.tensor([1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0])
    data, _ = codec(2, block=64, levels="quantile").encode({"a": eight}, {}, 0)
    assert data == struct.pack("<ffff", 1.5, 3.5, 5.5, 7.5) + bytes([0b11_00_11_00, 0b10_01_10_01])


def test_bytes_of_stochastic_rounding_are_the_same_everywhere() -> None:
    """Beside SplitMix64 written out: 24 bits of its numbers for each entry, two entries to a number."""

    def number(seed: int, n: int) -> int:
        z = (seed + 0x9E3779B97F4A7C15 * (n + 1)) % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    assert number(0, 0) == 0xE220A8397B1DCDAF  # as published
    seed = 12345678901234567890
    values = drawn(3, 999)
    one = codec(8, block=1024, rounding="stochastic")
    data, _ = one.encode({"first": torch.ones(3), "a": values}, {}, seed)
    stream = number(seed, int.from_bytes(hashlib.sha256(b"a").digest()[:8], "little"))
    noise = [(number(stream, i // 2) >> (8 if i % 2 else 40)) % 2**24 / 2**24 for i in range(999)]
    x = values.numpy()
    places = x / np.abs(x).max() * np.float32(127) + np.float32(127)
    lower = np.minimum(np.floor(places), 253)
    expected = lower + (np.array(noise) < places - lower)
    assert list(data[-999:]) == expected.astype(int).tolist()


@EACH
def test_stochastic_rounding_is_right_on_average(bits: int) -> None:
    values = drawn(2, 64)
    one = codec(bits, block=64, rounding="stochastic")
    draws = 4000
    sent = {f"{i}": values for i in range(draws)}
    got = one.decode(one.encode(sent, {}, 9)[0], dict.fromkeys(sent, (64,)))
    mean = torch.stack(list(got.values())).double().mean(0)
    step = 2 * float(values.abs().max()) / steps(bits)
    # A draw deviates by at most half a step on average, so this is five standard deviations or more.
    assert (mean - values.double()).abs().max() <= 5 * step / 2 / draws**0.5
    biased = torch.from_numpy(through(codec(bits, block=64), values))
    assert (biased - values.double()).abs().max() > 5 * step / 2 / draws**0.5


@EACH
def test_blocks_of_zeros_and_equal_values_are_exact(bits: int) -> None:
    for one in (codec(bits), codec(bits, rounding="stochastic"), codec(bits, levels="quantile", block=4096)):
        for value in (0.0, 1e-45, -2.5, 3.4028234663852886e38):
            assert (through(one, torch.full((300,), value)) == np.float32(value)).all()


@EACH
def test_a_residual_stays_small_where_the_largest_values_are_sent_as_they_are(bits: int) -> None:
    """The same update again and again: levels that end below its largest values would fall behind ever further."""
    update, kept = {"a": drawn(5, 1 << 13)}, {}
    one = codec(bits, block=64, error_feedback=True)
    for _ in range(30):
        _, kept = one.encode(update, kept, 0)
        assert norm(kept) < 2 * norm(update)


def test_one_update_with_heavy_tails_loses_less_with_quantile_levels() -> None:
    values = drawn(5, 1 << 15)
    quantile, absmax = (
        np.linalg.norm(values.double().numpy() - through(one, values))
        for one in (codec(2, levels="quantile", block=4096), codec(2, block=256))
    )
    assert quantile < np.linalg.norm(values) < absmax
