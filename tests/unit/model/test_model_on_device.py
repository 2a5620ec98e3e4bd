"""The model on the device of --device, against the CPU and its own arithmetic."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from support.devices import Operations, compile_quickly, hardware
from support.reference import fill
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from fednano.bench.sample import NEVER, random_model, uncached
from fednano.model.arch import NANOCHAT, SEED, Arch
from fednano.model.generate import Sampling, generate
from fednano.model.gpt import GPT, GPTConfig
from fednano.model.loss import slice_rows, softcap_cross_entropy
from fednano.model.scaling import Depth
from fednano.model.window import attend
from fednano.training.local import compile_apart

pytestmark = pytest.mark.cuda


def drawn(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dense(q: Tensor, k: Tensor, v: Tensor, window: int, scale: float) -> Tensor:
    i, j = torch.arange(q.size(2), device=q.device).view(-1, 1), torch.arange(q.size(2), device=q.device)
    k, v = (x.repeat_interleave(q.size(1) // x.size(1), dim=1) for x in (k, v))
    scores = (scale * q @ k.mT).masked_fill((j > i) | (i - j > window), -torch.inf)
    return scores.softmax(-1) @ v


@pytest.mark.parametrize("heads", [2, 1])
@pytest.mark.parametrize("window", [128, 500])
def test_compiled_attention_equals_a_dense_one_and_its_gradients(
    device: torch.device, window: int, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_quickly(device, monkeypatch)
    sides = [drawn(2, n, 300, 64, seed=i).to(device).requires_grad_() for i, n in enumerate((2, heads, heads))]
    found, expected = torch.compile(attend, dynamic=False)(*sides, window, 0.1), dense(*sides, window, 0.1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        torch.autograd.grad(found.square().sum(), sides),
        torch.autograd.grad(expected.square().sum(), sides),
        rtol=1e-2,
        atol=1e-3,
    )


def test_full_attention_runs_in_the_flash_kernel(device: torch.device) -> None:
    sides = [drawn(1, 2, 256, 128, seed=i).to(device, torch.bfloat16).requires_grad_() for i in range(3)]
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # raises if that kernel cannot do it
        found = attend(*sides, 256, 0.1)
        found.sum().backward()
    torch.testing.assert_close(found.float(), dense(*(x.float() for x in sides), 256, 0.1), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("arch", [SEED, NANOCHAT])
def test_queries_keys_and_values_have_one_precision(
    device: torch.device, arch: Arch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fednano.model.fused._by_hand", lambda x: False)  # as on a GPU, or compiled
    seen = []
    real = attend

    def watching(q: Tensor, k: Tensor, v: Tensor, window: int, scale: float) -> Tensor:
        seen.append({q.dtype, k.dtype, v.dtype})
        return real(q, k, v, window, scale)

    monkeypatch.setattr("fednano.model.gpt.attend", watching)
    model = GPT(GPTConfig.derive(Depth(2, sequence_len=16), arch, 300)).to(device)
    fill(model)
    with hardware(device, "bfloat16").autocast():
        model.features(torch.arange(16, device=device).view(1, 16))
    assert seen == [{torch.bfloat16}] * 2


def test_on_cuda_windows_are_flex_attention_in_one_precision() -> None:
    """What the compiler is given for a CUDA device, from tensors without memory; needs no such device."""
    nodes = []

    def keep(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        nodes.extend(graph.graph.nodes)
        return graph.forward

    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    try:
        # The context manager refuses without a device.
        torch.set_autocast_enabled("cuda", True)
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            with torch.device("cuda"):
                model = GPT(GPTConfig.derive(Depth(2, sequence_len=1024), NANOCHAT, 512))
            tokens = torch.zeros(1, 1024, dtype=torch.int64, device="cuda")
            torch.compile(model.features, backend=keep, fullgraph=True, dynamic=False)(tokens)
    finally:
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])
    kernels = {str(node.target): node for node in nodes if "attention" in str(node.target)}
    assert any("flex" in name for name in kernels) and any("scaled_dot" in name for name in kernels)
    for node in kernels.values():
        assert {argument.meta["example_value"].dtype for argument in node.args[:3]} == {torch.bfloat16}


def test_a_window_needs_no_matrix_of_all_pairs(device: torch.device) -> None:
    T = 8192 if device.type == "cuda" else 2048
    sides = [drawn(1, 1, T, 64, seed=i).to(device).requires_grad_() for i in range(3)]
    if device.type == "cuda":
        compiled = torch.compile(attend, dynamic=False)
        compiled(*sides, 256, 0.1).sum().backward()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        compiled(*sides, 256, 0.1).sum().backward()
        assert torch.cuda.max_memory_allocated() - before < T * T  # bytes, of a mask alone
        return
    with Operations() as seen:
        attend(*sides, 256, 0.1).sum().backward()
    assert seen.largest < T * T


def test_the_loss_holds_no_logits_of_all_rows(device: torch.device) -> None:
    V, C = 65_536, 32
    rows = 8 * slice_rows(device, V) if device.type == "cuda" else 512
    x, weight = drawn(rows, C).to(device).requires_grad_(), (drawn(V, C) / 8).to(device).requires_grad_()
    targets = torch.arange(rows, device=device) % V
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        softcap_cross_entropy(x, weight, targets, 15.0, V, -1).backward()
        assert torch.cuda.max_memory_allocated() - before < 4 * rows * V
        return
    with Operations() as seen:
        softcap_cross_entropy(x, weight, targets, 15.0, V, -1).backward()
    assert 0 < seen.largest < rows * V


def test_slices_on_a_gpu_are_few() -> None:
    gpu = torch.device("cuda")
    assert 65_536 / slice_rows(gpu, 65_536) == 32
    assert slice_rows(torch.device("cpu"), 65_536) == 256


@pytest.mark.parametrize("slice_logits", [100 * 300, 1 << 20])
def test_the_compiled_step_gives_the_loss_and_gradients_of_the_eager_one(
    device: torch.device, slice_logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_quickly(device, monkeypatch)
    for name in ("SLICE_LOGITS", "GPU_SLICE_LOGITS"):
        monkeypatch.setattr(f"fednano.model.loss.{name}", slice_logits)
    monkeypatch.setattr("fednano.model.loss.SLICE_ROWS", 1)
    model = GPT(GPTConfig.derive(Depth(2, sequence_len=200), replace(NANOCHAT, window_pattern="S"), 300))
    fill(model)
    model.to(device)
    tokens = torch.randint(0, 300, (2, 200), generator=torch.Generator().manual_seed(4)).to(device)
    targets = tokens.roll(-1, dims=1)
    targets[0, 5:9] = -1
    eager, compiled = model(tokens, targets), compile_apart(model)(tokens, targets)
    torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-4)
    expected = torch.autograd.grad(eager, list(model.parameters()))
    found = torch.autograd.grad(compiled, list(model.parameters()))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.linalg.vector_norm(ours - theirs) <= 1e-3 * torch.linalg.vector_norm(theirs) + 1e-6


@pytest.mark.parametrize("cap", [15.0, 200.0])
def test_a_compiled_slice_is_an_eager_one(device: torch.device, cap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from fednano.model.loss import slice_loss

    compile_quickly(device, monkeypatch)
    scaled, head = drawn(20, 8).to(device), drawn(64, 8).to(device)
    targets = torch.arange(20, device=device)
    targets[3] = -1
    arguments = scaled, head, targets, targets >= 0, torch.tensor(1 / 19, device=device), cap, True
    found = torch.compile(slice_loss, dynamic=False)(*arguments)
    torch.testing.assert_close(found, slice_loss(*arguments), rtol=1e-4, atol=1e-6)


def test_the_cache_changes_no_token_on_the_device(device: torch.device) -> None:
    on_cpu, on_device = random_model(2, 16, 300), random_model(2, 16, 300).to(device)
    steps = generate(on_device, [1, 2, 3], 40, 1, Sampling(temperature=0), NEVER)
    assert [step[0] for step in steps] == uncached(on_cpu, [1, 2, 3], 40)
    drawn_texts = [list(generate(m, [5], 10, 3, Sampling(top_p=0.9), NEVER)) for m in (on_cpu, on_device)]
    assert drawn_texts[0] == drawn_texts[1]


def test_bfloat16_stays_near(device: torch.device) -> None:
    model = GPT(GPTConfig.derive(Depth(2, sequence_len=64), NANOCHAT, 300)).to(device)
    fill(model)
    tokens = torch.randint(0, 300, (4, 64), generator=torch.Generator().manual_seed(4)).to(device)
    exact = model(tokens, tokens.roll(-1, dims=1))
    with hardware(device, "bfloat16").autocast():
        rough = model(tokens, tokens.roll(-1, dims=1))
    assert rough.item() == pytest.approx(exact.item(), rel=2e-2)
    rough.backward()
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}
    assert all(p.grad.isfinite().all() for p in model.parameters())
