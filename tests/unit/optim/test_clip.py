"""Clipping of gradients by their global norm."""

import pytest
import torch
from torch.nn.utils import clip_grad_norm_

from fednano.core import tensors
from fednano.model.arch import NANOCHAT
from fednano.model.gpt import GPT, GPTConfig
from fednano.model.scaling import Depth
from fednano.optim.inner import AdamW, MuonAdamW


def gradients_of(model: GPT, scale: float = 1.0) -> list[torch.Tensor]:
    """Give the model the gradient of `scale` times the loss of a batch."""
    tokens = torch.arange(16).view(2, 8) % 7
    (scale * model(tokens, tokens + 1)).backward()
    return [parameter.grad for parameter in model.parameters()]


def model_of() -> GPT:
    model = GPT(GPTConfig.derive(Depth(2, sequence_len=8), NANOCHAT, 300))
    model.init_weights(torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize("optim", [AdamW, MuonAdamW])
def test_a_clipped_step_is_the_step_of_torchs_clipped_gradients(optim: type[AdamW | MuonAdamW]) -> None:
    ours, theirs = model_of(), model_of()
    clipping, plain = optim(clip=0.1).build(ours), optim().build(theirs)
    for scale in (1.0, 30.0, 0.001):  # the last one is short already
        gradients_of(ours, scale)
        gradients_of(theirs, scale)
        norm = clip_grad_norm_(theirs.parameters(), 0.1)
        assert (norm > 0.1) == (scale >= 1.0)
        clipping.step(1.0)
        plain.step(1.0)
    assert tensors.digest(ours.state_dict()) == tensors.digest(theirs.state_dict())
    assert tensors.digest(clipping.state()) == tensors.digest(plain.state())


def test_a_norm_out_of_reach_changes_no_bit() -> None:
    free, limited = model_of(), model_of()
    for model, optim in ((free, AdamW()), (limited, AdamW(clip=1e9))):
        gradients_of(model)
        optim.build(model).step(1.0)
    assert tensors.digest(free.state_dict()) == tensors.digest(limited.state_dict())
