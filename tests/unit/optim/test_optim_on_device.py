"""Inner optimizers on the device of --device, against the CPU."""

from dataclasses import replace

import pytest
import torch
from support.devices import compile_quickly, hardware
from support.reference import fill

from fednano.config.build import build_groups
from fednano.config.compose import compose_config
from fednano.model.arch import NANOCHAT
from fednano.model.gpt import GPT, GPTConfig
from fednano.model.scaling import Depth
from fednano.optim.inner import InnerOptimizer, Optim
from fednano.optim.muon import Muon

pytestmark = pytest.mark.cuda


@pytest.fixture(params=["adamw", "muon_adamw", "nanochat"])
def optim(request: pytest.FixtureRequest) -> Optim:
    return build_groups(compose_config([f"optim={request.param}"]), ["optim"])["optim"]


def stepped(optim: Optim, device: torch.device, steps: int, compiled: bool = False) -> tuple[GPT, InnerOptimizer]:
    """A model after steps with drawn gradients, which do not depend on the weights."""
    model = GPT(GPTConfig.derive(Depth(2, sequence_len=16), replace(NANOCHAT, mlp_ratio=2), 300))
    fill(model)
    optimizer = optim.build(model.to(device))
    if compiled:
        optimizer.compile()
    for step in range(steps):
        draw = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=draw).to(device)
        optimizer.step(0.5)
    return model, optimizer


def assert_near(found: GPT, expected: GPT) -> None:
    for (name, ours), theirs in zip(found.named_parameters(), expected.parameters(), strict=True):
        assert torch.allclose(ours.cpu(), theirs.cpu(), rtol=1e-3, atol=1e-4), name


def test_the_device_takes_the_steps_of_the_cpu(device: torch.device, optim: Optim) -> None:
    found, optimizer = stepped(optim, device, 3)
    assert_near(found, stepped(optim, torch.device("cpu"), 3)[0])
    assert {value.device.type for value in optimizer.state().values()} == {device.type}


def test_a_compiled_optimizer_takes_the_same_steps(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_quickly(device, monkeypatch)
    optim = build_groups(compose_config(["optim=nanochat"]), ["optim"])["optim"]
    assert_near(stepped(optim, device, 3, compiled=True)[0], stepped(optim, torch.device("cpu"), 3)[0])


def test_compiling_reaches_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    reached = []
    monkeypatch.setattr(Muon, "compile", lambda muon: reached.append("muon"))
    InnerOptimizer(Muon([torch.nn.Parameter(torch.ones(2, 2))], 0.1)).compile()
    assert reached == ["muon"]


def test_a_state_moves_between_devices_bit_for_bit(device: torch.device, optim: Optim) -> None:
    model, optimizer = stepped(optim, device, 2)
    kept = {name: value.cpu().clone() for name, value in optimizer.state().items()}
    other = optim.build(model)
    other.load(kept)
    found = other.state()
    assert {name: value.device.type for name, value in found.items()} == dict.fromkeys(kept, device.type)
    assert all(torch.equal(value.cpu(), kept[name]) for name, value in found.items())


@pytest.mark.parametrize("polar", [False, True])
def test_muon_under_autocast_keeps_its_state_and_stays_near(device: torch.device, polar: bool) -> None:
    def step(dtype: str) -> tuple[Muon, torch.Tensor]:
        weights = [torch.nn.Parameter(torch.zeros(48, 32, device=device)) for _ in range(2)]
        for i, weight in enumerate(weights):
            weight.grad = torch.randn(48, 32, generator=torch.Generator().manual_seed(i)).to(device)
        muon = Muon(weights, lr=1.0, polar=polar, equilibrated=polar, beta2=0.9 if polar else 0.0)
        with hardware(device, dtype).autocast():
            muon.step()
        assert {value.dtype for value in muon.state[weights[0]].values()} == {torch.float32}
        return muon, torch.stack([weight.detach() for weight in weights])

    exact, rough = step("float32")[1], step("bfloat16")[1]
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert torch.nn.functional.cosine_similarity(rough.flatten(), exact.flatten(), dim=0) > 0.995
