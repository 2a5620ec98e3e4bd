"""FusedAdamW against torch's own AdamW, and what making an optimizer imports."""

import subprocess
import sys

import torch

from fednano.optim.grouped import FusedAdamW


def test_steps_are_torchs_bit_for_bit() -> None:
    draw = torch.Generator().manual_seed(1)
    shapes = [(3, 4), (5,), (), (2, 2, 2)]
    ours = [torch.randn(shape, generator=draw).requires_grad_() for shape in shapes]
    theirs = [parameter.detach().clone().requires_grad_() for parameter in ours]

    def groups(parameters: list[torch.Tensor]) -> list[dict[str, object]]:
        return [
            {"params": parameters[:2], "lr": 0.1, "betas": (0.8, 0.95), "weight_decay": 0.3},
            {"params": parameters[2:], "lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.0},
        ]

    optimizer, reference = FusedAdamW(groups(ours)), torch.optim.AdamW(groups(theirs), eps=1e-10, fused=True)
    for step in range(4):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=draw)
            other.grad = mine.grad.clone()
        if step == 2:
            ours[1].grad = theirs[1].grad = None
        optimizer.step()
        reference.step()
        for mine, other in zip(ours, theirs, strict=True):
            assert torch.equal(mine, other)
            assert optimizer.state[mine].keys() == reference.state[other].keys()
            assert all(torch.equal(optimizer.state[mine][key], kept) for key, kept in reference.state[other].items())
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in ours)


TRAINS = """
import sys, torch
from fednano.model.arch import SEED
from fednano.model.gpt import GPT, GPTConfig
from fednano.optim.inner import MuonAdamW
model = GPT(GPTConfig(arch=SEED, layers=1, heads=1, kv_heads=1, width=8, vocab_size=16, sequence_len=4))
model.init_weights(torch.Generator().manual_seed(0))
optimizer = MuonAdamW().build(model)
model(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 4, dtype=torch.long)).backward()
optimizer.step(1.0)
assert "torch._dynamo" not in sys.modules
"""


def test_training_does_not_import_the_compiler() -> None:
    """It takes longer to import than the rest of torch."""
    subprocess.run([sys.executable, "-c", TRAINS], check=True)
