"""The codec that changes nothing."""

import pytest
import torch

from fednano.codec.fp32 import Fp32
from fednano.core import tensors


def test_fp32_is_lossless_and_checks_lengths() -> None:
    codec = Fp32()
    state = {"a": torch.randn(3, 5, generator=torch.Generator().manual_seed(1)).t(), "b": torch.tensor(2.5)}
    data, kept = codec.encode(state, {}, 0)
    assert kept == {}
    assert len(data) == codec.size(tensors.shapes(state)) == 64
    again = codec.decode(data, tensors.shapes(state))
    assert list(again) == ["a", "b"]
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())
    with pytest.raises(ValueError, match="must have 60 bytes for these shapes, got 64"):
        codec.decode(data, {"a": (5, 3)})
