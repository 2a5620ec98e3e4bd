"""Gradients that are written out, against autograd's own."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fednano.model.arch import NANOCHAT
from fednano.model.fused import mix, relu_squared, rms_norm, rotary_norm, rotate
from fednano.model.gpt import GPT, GPTConfig, rotary_tables
from fednano.model.loss import softcap_cross_entropy
from fednano.model.scaling import Depth
from fednano.training.local import compile_model

COS, SIN = (table.unsqueeze(1) for table in rotary_tables(5, 8, 10_000.0))


def plain_norm(x: Tensor) -> Tensor:
    return torch.nn.functional.rms_norm(x, (x.size(-1),))


CASES = {
    "rms_norm": (rms_norm, plain_norm, [(2, 5, 3, 8)]),
    "rotary_norm": (
        lambda x: rotary_norm(x, COS, SIN),
        lambda x: plain_norm(rotate(x, COS, SIN)),
        [(2, 5, 3, 8)],
    ),
    "relu_squared": (relu_squared, lambda x: x.relu().square(), [(2, 5, 8)]),
    "mix": (mix, lambda x, x0, r, e: r * x + e * x0, [(2, 5, 8), (2, 5, 8), (), ()]),
}


def with_gradients(function: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    result = function(*leaves)
    upstream = torch.randn(result.shape, generator=torch.Generator().manual_seed(9)).to(result.dtype)
    return [result.detach(), *torch.autograd.grad(result, leaves, upstream)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_written_gradients_are_those_of_autograd(name: str, dtype: torch.dtype) -> None:
    fused, plain, shapes = CASES[name]
    draw = torch.Generator().manual_seed(8)
    inputs = [torch.randn(shape, generator=draw).to(dtype) for shape in shapes]
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype is torch.float32 else {"rtol": 5e-2, "atol": 5e-2}
    found = with_gradients(fused, inputs)
    assert {tensor.dtype for tensor in found} == {dtype}
    for ours, expected in zip(found, with_gradients(plain, inputs), strict=True):
        torch.testing.assert_close(ours, expected.to(dtype), **tolerance)


def test_a_row_of_zeros_has_a_norm_and_a_gradient() -> None:
    x = torch.zeros(1, 4, requires_grad=True)
    rms_norm(x).sum().backward()
    assert rms_norm(x).eq(0).all() and x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize("cap", [15.0, 200.0])
def test_the_loss_holds_for_any_cap(cap: float) -> None:
    draw = torch.Generator().manual_seed(3)
    x = (30 * torch.randn(20, 8, generator=draw)).requires_grad_()
    weight = torch.randn(64, 8, generator=draw, requires_grad=True)
    targets = torch.arange(20)
    gradients = torch.autograd.grad(softcap_cross_entropy(x, weight, targets, cap, 64, -1), (x, weight))
    expected = torch.nn.functional.cross_entropy(cap * torch.tanh(x @ weight.T / cap), targets)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, (x, weight)), rtol=1e-4, atol=1e-5)


def test_evaluation_makes_no_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = torch.randn(4, 8, requires_grad=True), torch.randn(64, 8, requires_grad=True)
    monkeypatch.setattr("torch.mm", lambda *_, **__: pytest.fail("a gradient was made"))
    with torch.no_grad():
        assert softcap_cross_entropy(x, weight, torch.arange(4), 15.0, 64, -1).item() > 0


def test_compiled_blocks_give_the_loss_and_gradients_of_eager_ones() -> None:
    model = GPT(GPTConfig.derive(Depth(2, sequence_len=16), NANOCHAT, 300))
    model.init_weights(torch.Generator().manual_seed(0))
    for block in model.blocks:
        torch.nn.init.normal_(block.mlp.c_proj.weight, std=0.02, generator=torch.Generator().manual_seed(3))
    tokens = torch.arange(32).view(2, 16)
    eager = model(tokens, tokens + 1)
    expected = torch.autograd.grad(eager, list(model.parameters()))
    compiled = compile_model(model)(tokens, tokens + 1)
    torch.testing.assert_close(compiled, eager)
    torch.testing.assert_close(torch.autograd.grad(compiled, list(model.parameters())), expected, rtol=1e-3, atol=1e-5)
