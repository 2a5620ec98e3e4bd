"""bfloat16, beside torch's."""

import pytest
import torch
from hypothesis import given, settings
from support.codecs import floats

from fednano.codec.bf16 import Bf16


def through(values: torch.Tensor) -> torch.Tensor:
    codec, shapes = Bf16(), {"a": tuple(values.shape)}
    data, _ = codec.encode({"a": values}, {}, 0)
    return codec.decode(data, shapes)["a"]


@given(values=floats())
@settings(max_examples=80, deadline=None)
def test_it_rounds_like_torch_and_keeps_its_bound(values: torch.Tensor) -> None:
    got = through(values)
    assert ((got.double() - values.double()).abs() <= 2.0**-8 * values.double().abs() + 2.0**-134).all()
    torchs = values.bfloat16().float()
    fits = torchs.isfinite()
    assert torch.equal(got[fits], torchs[fits])


def test_every_pattern_of_the_upper_bits_survives() -> None:
    bits = torch.arange(1 << 16, dtype=torch.int32) << 16
    values = bits.view(torch.float32)
    got = through(values)
    assert torch.equal(got.view(torch.int32)[~values.isnan()], bits[~values.isnan()])
    assert got[values.isnan()].isnan().all()


@pytest.mark.parametrize(
    ("value", "bits"),
    [(1.0, 0x3F80), (1.00390625, 0x3F80), (1.01171875, 0x3F82), (-1.004, 0xBF81), (3.4028234663852886e38, 0x7F7F)],
)
def test_bytes_are_the_upper_half(value: float, bits: int) -> None:
    """2^-8 is half of the last place at 1: ties go to the even neighbour, 1 or 1 + 2^-6."""
    assert Bf16().encode({"a": torch.tensor(value)}, {}, 0)[0] == bits.to_bytes(2, "little")
