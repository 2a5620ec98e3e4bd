"""Inner optimizers and schedules."""

import pytest
import torch

from fednano.model.arch import SEED
from fednano.model.gpt import GPT, GPTConfig
from fednano.model.scaling import Depth
from fednano.optim.inner import AdamW, MuonAdamW
from fednano.optim.muon import Muon, orthogonalize
from fednano.optim.schedule import Trapezoid


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 32, 8), (2, 8, 32)])
def test_orthogonalize_flattens_singular_values_and_keeps_directions(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    result = orthogonalize(matrices, steps=10)
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    singular = torch.linalg.svdvals(result)
    assert singular.min() > 0.6 and singular.max() < 1.3
    # The result commutes with the singular vectors: uᵀ·result·v is diagonal.
    core = u.mT @ result @ vh.mT
    torch.testing.assert_close(core, torch.diag_embed(core.diagonal(dim1=-2, dim2=-1)), atol=2e-3, rtol=0)


def test_muon_step_by_hand() -> None:
    weight = torch.nn.Parameter(torch.ones(4, 2))
    optimizer = Muon([weight], lr=0.1, momentum=0.5, weight_decay=0.2, steps=5)
    buffer = torch.zeros(4, 2)
    expected = torch.ones(4, 2)
    for seed in (1, 2):
        grad = torch.randn(4, 2, generator=torch.Generator().manual_seed(seed))
        buffer = 0.5 * buffer + 0.5 * grad
        direction = orthogonalize((0.5 * grad + 0.5 * buffer).unsqueeze(0), 5)[0]
        expected = expected * (1 - 0.1 * 0.2) - 0.1 * 2**0.5 * direction
        weight.grad = grad
        optimizer.step()
    torch.testing.assert_close(weight.detach(), expected)


def test_stacking_does_not_mix_parameters() -> None:
    grads = [torch.randn(4, 4, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    together = [torch.nn.Parameter(torch.zeros(4, 4)) for _ in grads]
    for parameter, grad in zip(together, grads, strict=True):
        parameter.grad = grad
    Muon(together, lr=1.0).step()
    for parameter, grad in zip(together, grads, strict=True):
        alone = torch.nn.Parameter(torch.zeros(4, 4))
        alone.grad = grad
        Muon([alone], lr=1.0).step()
        torch.testing.assert_close(parameter, alone)


@pytest.mark.parametrize("optim", [MuonAdamW(), AdamW()])
def test_every_parameter_is_stepped_once(optim: MuonAdamW | AdamW) -> None:
    model = GPT(GPTConfig.derive(Depth(2, sequence_len=8), SEED, 300))
    optimizer = optim.build(model)
    held = [p for part in optimizer.parts for group in part.param_groups for p in group["params"]]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))


def test_learning_rates_follow_the_scale_and_the_width() -> None:
    model = GPT(GPTConfig.derive(Depth(2, sequence_len=8), SEED, 300))
    optimizer = MuonAdamW(matrix_lr=0.02, head_lr=0.004).build(model)
    model(torch.zeros(1, 8, dtype=torch.int64), torch.zeros(1, 8, dtype=torch.int64)).backward()
    optimizer.step(0.5)
    muon, adamw = optimizer.parts
    assert muon.param_groups[0]["lr"] == pytest.approx(0.01)
    assert adamw.param_groups[0]["lr"] == pytest.approx(0.002 * (128 / 768) ** -0.5)
    assert all(p.grad is None for p in model.parameters())


def test_training_learns_a_repeating_sequence() -> None:
    model = GPT(GPTConfig.derive(Depth(2, sequence_len=16), SEED, 300))
    model.init_weights(torch.Generator().manual_seed(0))
    optimizer = MuonAdamW().build(model)
    tokens = (torch.arange(17) % 5).view(1, 17)
    for _ in range(30):
        loss = model(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        optimizer.step(1.0)
    assert loss.item() < 0.05


def test_trapezoid() -> None:
    schedule = Trapezoid(warmup=0.1, warmdown=0.4, final=0.2)
    scales = [schedule.scale(tokens, 1000) for tokens in (-5, 0, 50, 100, 600, 800, 1000, 5000)]
    assert scales == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0, 0.6, 0.2, 0.2])


def test_trapezoid_without_warmup_begins_at_one() -> None:
    assert Trapezoid(warmup=0.0, warmdown=0.0, final=0.0).scale(0, 10) == 1.0
    assert Trapezoid(warmup=0.0, warmdown=0.0, final=0.0).scale(10, 10) == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Trapezoid(warmup=1.5), "optim.schedule.warmup=1.5"),
        (lambda: Trapezoid(warmup=0.7, warmdown=0.7), "overlap"),
        (lambda: MuonAdamW(matrix_lr=0), "optim.matrix_lr=0"),
        (lambda: MuonAdamW(momentum=1.0), "optim.momentum=1"),
        (lambda: AdamW(state="average"), "optim.state=average"),
    ],
)
def test_bad_settings_name_key_and_value(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
