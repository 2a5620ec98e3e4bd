"""State-dict algebra, the codec and the digest."""

import hashlib
import math

import pytest
import torch

from fednano.core import tensors


def state() -> tensors.State:
    return {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor([[3.0]])}


def test_subtract() -> None:
    delta = tensors.subtract(state(), {"b": torch.tensor([0.5, 0.5]), "a": torch.tensor([[1.0]])})
    assert delta["b"].tolist() == [0.5, 1.5]
    assert delta["a"].tolist() == [[2.0]]


def test_norm_and_count() -> None:
    assert tensors.norm(state()) == pytest.approx(math.sqrt(14))
    assert tensors.count(state()) == 3
    assert math.isnan(tensors.norm({"x": torch.tensor([1.0, math.nan])}))


def test_digest_is_as_documented() -> None:
    sha = hashlib.sha256()
    sha.update(b"a\n1,1\n" + torch.tensor([3.0]).numpy().tobytes())
    sha.update(b"b\n2\n" + torch.tensor([1.0, 2.0]).numpy().tobytes())
    assert tensors.digest(state()) == sha.hexdigest()


def test_digest_sees_names_shapes_and_bytes() -> None:
    digests = {
        tensors.digest(s)
        for s in (
            state(),
            {**state(), "b": torch.tensor([1.0, 2.5])},
            {**state(), "b": torch.tensor([[1.0, 2.0]])},
            {"c": state()["b"], "a": state()["a"]},
        )
    }
    assert len(digests) == 4
