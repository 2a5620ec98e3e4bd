"""The local trainer on the device of --device: clients apart, repeats, waits, batches, checkpoints."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.devices import Operations, compile_quickly, default_determinism, hardware
from torch._dynamo.utils import counters

from fednano.core import tensors
from fednano.core.clock import VirtualClock
from fednano.core.event_log import read_log
from fednano.core.events import UpdateRefused
from fednano.core.tensors import State
from fednano.data.loader import Batch
from fednano.model.arch import NANOCHAT
from fednano.model.gpt import GPT, GPTConfig
from fednano.model.scaling import Depth
from fednano.optim.inner import MuonAdamW
from fednano.training.hardware import CUBLAS_WORKSPACE, Hardware
from fednano.training.local import LocalTrainer, StepPlan, StepsDone, compile_apart
from fednano.training.tensor_files import load_tensors, save_tensors

pytestmark = pytest.mark.cuda
CONFIG = GPTConfig.derive(Depth(2, sequence_len=16), replace(NANOCHAT, mlp_ratio=1), 300)
B, T = 2, CONFIG.sequence_len


@pytest.fixture(autouse=True)
def process_settings() -> Iterator[None]:
    with default_determinism():
        yield


def first_weights() -> State:
    model = GPT(CONFIG)
    model.init_weights(torch.Generator().manual_seed(0))
    return tensors.clone(model.state_dict())


def batches(seed: int, count: int) -> list[Batch]:
    ids = np.random.default_rng(seed).integers(300, size=(count, B, T + 1))
    return [Batch(rows[:, :-1], rows[:, 1:], cursor=(i, 0)) for i, rows in enumerate(ids)]


def trainer(device: torch.device, dtype: str = "float32", *, compiled: bool = False) -> LocalTrainer:
    return LocalTrainer(
        model=GPT(CONFIG), optim=MuonAdamW(), hardware=hardware(device, dtype, compiled=compiled), batch_tokens=B * T
    )


def train(found: LocalTrainer, client: str, weights: State, seed: int, steps: int = 3) -> tuple[StepsDone, State]:
    plan = StepPlan(steps=steps, step_s=1.0, tokens_before=0, tokens_per_step=B * T, horizon=1000)
    done, local = found.run(
        client, weights, batches(seed, steps), plan, VirtualClock(0.0), lambda s: True, lambda step, loss: None
    )
    return done, tensors.clone(local)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_clients_that_share_a_device_share_nothing_else(device: torch.device, dtype: str) -> None:
    apart, shared = [trainer(device, dtype), trainer(device, dtype)], trainer(device, dtype)
    weights = [first_weights(), first_weights()]
    expected = [train(apart[i], f"client_{i}", weights[i], seed=i)[1] for i in range(2)]
    expected = [train(apart[i], f"client_{i}", expected[i], seed=i + 2)[1] for i in range(2)]
    for turn in range(2):
        weights = [train(shared, f"client_{i}", weights[i], seed=i + 2 * turn)[1] for i in range(2)]
    assert [tensors.digest(w) for w in weights] == [tensors.digest(w) for w in expected]
    assert tensors.digest(weights[0]) != tensors.digest(weights[1])
    states = shared.states()
    assert {value.device.type for state in states.values() for value in state.values()} == {"cpu"}
    assert tensors.digest(states["client_0"]) == tensors.digest(apart[0].states()["client_0"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_steps_give_the_same_bits(device: torch.device, dtype: str) -> None:
    ends = [train(trainer(device, dtype), "client_0", first_weights(), seed=1, steps=6) for _ in range(2)]
    assert tensors.digest(ends[0][1]) == tensors.digest(ends[1][1])
    assert ends[0][0].loss == ends[1][0].loss
    assert {value.dtype for value in ends[0][1].values()} == {torch.float32}


def test_a_restored_client_goes_on_with_the_same_bits(device: torch.device, tmp_path: Path) -> None:
    whole, first, second = trainer(device), trainer(device), trainer(device)
    _, middle = train(whole, "client_0", first_weights(), seed=1)
    _, expected = train(whole, "client_0", middle, seed=2)
    _, middle = train(first, "client_0", first_weights(), seed=1)
    save_tensors(first.states()["client_0"], tmp_path / "state.safetensors")
    save_tensors({name: value.to(device) for name, value in middle.items()}, tmp_path / "weights.safetensors")
    second.restore({"client_0": load_tensors(tmp_path / "state.safetensors")}, 0.0, 0.0)
    _, found = train(second, "client_0", load_tensors(tmp_path / "weights.safetensors"), seed=2)
    assert tensors.digest(found) == tensors.digest(expected)


def test_a_step_waits_for_the_device_once_at_its_end(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a number from the device stops the queue of work, so that the device idles."""
    subject, weights, seen = trainer(device), first_weights(), []
    train(subject, "client_0", weights, seed=1)
    real = LocalTrainer._step

    def watched(*arguments: Any) -> float:
        with Operations() as operations:
            found = real(*arguments)
        seen.append(operations.names)
        return found

    monkeypatch.setattr(LocalTrainer, "_step", watched)
    train(subject, "client_0", weights, seed=2)
    assert len(seen) == 3
    for names in seen:
        assert [name for name in names if name in ("aten::_local_scalar_dense", "aten::nonzero")] == [names[-1]]


def test_rounds_and_clients_compile_nothing_again(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_quickly(device, monkeypatch)
    monkeypatch.setattr("fednano.training.local.compile_model", compile_apart)
    torch._dynamo.reset()
    subject, weights = trainer(device, compiled=True), first_weights()
    train(subject, "client_0", weights, seed=0)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs >= 2
    for client in ("client_1", "client_0"):
        _, weights = train(subject, client, weights, seed=1)
    assert counters["stats"]["unique_graphs"] == graphs
    assert not counters["graph_break"]


def test_batches_arrive_from_pinned_memory(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies from other memory wait for the device. A view that is not contiguous and read-only arrives as well."""
    moved = []
    real = torch.Tensor.to

    def watching(self: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        if options.get("non_blocking"):
            moved.append(self.is_pinned() if device.type == "cuda" else True)
        return real(self, *arguments, **options)

    subject = trainer(device)
    ids = np.arange(2 * B * T).reshape(B, 2 * T)
    ids.flags.writeable = False
    monkeypatch.setattr(torch.Tensor, "to", watching)
    tokens, targets = subject._to_device(Batch(ids[:, ::2], ids[:, 1::2], cursor=(0, 0)))
    assert moved == [True, True]
    assert tokens.device.type == targets.device.type == device.type
    assert (tokens.tolist(), targets.tolist()) == (ids[:, ::2].tolist(), ids[:, 1::2].tolist())


def test_an_update_that_is_not_finite_is_refused(
    device: torch.device, run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = LocalTrainer.run

    def poisoned(self: LocalTrainer, client: str, *arguments: Any) -> tuple[StepsDone, State]:
        done, local = real(self, client, *arguments)
        if client == "client_1":
            local["head.weight"].view(-1)[3] = torch.nan
        return done, local

    monkeypatch.setattr(LocalTrainer, "run", poisoned)
    summary = run(
        "volatility.mean_up_s=1e9", "volatility.mean_down_s=1e-3", "clients=2", "rounds=2", f"hardware.device={device}"
    )
    refused = [event for event in read_log(summary["folder"] / "events.jsonl") if isinstance(event, UpdateRefused)]
    assert {event.client for event in refused} == {"client_1"}
    assert summary["val_bpb"] < summary["val_bpb_initial"]


def test_exact_repeats_are_asked_of_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr("torch.use_deterministic_algorithms", asked.append)
    monkeypatch.setattr(Hardware, "_require_device", lambda self: None)
    monkeypatch.setenv(CUBLAS_WORKSPACE, "")
    monkeypatch.delenv(CUBLAS_WORKSPACE)
    hardware(torch.device("cpu")).repeat_exactly()
    settings = {"name": "x", "device": "cuda", "threads": 0, "dtype": "float32", "compile": False, "tokens_per_s": (1,)}
    Hardware(**settings, deterministic=False).repeat_exactly()
    assert asked == []
    Hardware(**settings).repeat_exactly()
    assert asked == [True]
    assert os.environ[CUBLAS_WORKSPACE] == ":4096:8"


def test_an_optimizer_steps_in_the_precision_of_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hardware, "_require_device", lambda self: None)
    with hardware(torch.device("cpu"), "bfloat16").autocast_step():
        assert not torch.is_autocast_enabled("cpu")
    context = hardware(torch.device("cuda"), "bfloat16").autocast_step()
    assert isinstance(context, torch.autocast) and context.device == "cuda"
