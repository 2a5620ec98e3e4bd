"""Several ranks on one machine: the same steps as with one rank, a common end, a single writer."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fednano.config.compose import compose_config
from fednano.experiment.experiment import Experiment
from fednano.training.hardware import CudaDDP, Hardware

Command = Callable[..., subprocess.CompletedProcess[str]]


def torchrun(cwd: Path, *arguments: str, ranks: int = 2) -> subprocess.CompletedProcess[str]:
    """Start ranks on this machine, on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = [
        "torch.distributed.run",
        f"--nproc_per_node={ranks}",
        "--master_addr=127.0.0.1",
        f"--master_port={port}",
    ]
    return subprocess.run(
        [sys.executable, "-m", *launcher, *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def assert_close(a: Path, b: Path) -> None:
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (a, b))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


# Muon and AdamW turn rounding of gradients that are nearly 0 into whole steps; small rates keep those below 1e-5.
STEPS = (
    "volatility.mean_up_s=1e9",
    "volatility.mean_down_s=1e-3",
    "rounds=5",
    "optim=adamw",
    "optim.lr=1e-5",
    "optim.embedding_lr=1e-5",
    "optim.scalar_lr=5e-6",
)


@pytest.mark.parametrize("runtime", ["centralized", pytest.param("virtual", marks=pytest.mark.slow)])
def test_two_ranks_take_the_steps_of_one(command: Command, tiny: list[str], tmp_path: Path, runtime: str) -> None:
    # Most gradients are longer than that. AdamW takes the same steps on scaled gradients, but not if the scale varies.
    options = [*tiny, *STEPS, f"runtime={runtime}", "optim.clip=0.5"]
    alone = command("run", *options, "hydra.run.dir=alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    both = torchrun(tmp_path, "-m", "fednano.run", *options, "hydra.run.dir=both")
    assert both.returncode == 0, both.stderr
    one, two = summary_of(tmp_path / "alone"), summary_of(tmp_path / "both")
    for key in ("inner_steps", "tokens", "rounds", "rows", "virtual_s", "bytes"):
        assert one[key] == two[key], key
    assert one["inner_steps"] >= 20
    assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-5)
    assert two["val_bpb"] == pytest.approx(one["val_bpb"], rel=1e-5)
    assert_close(tmp_path / "alone", tmp_path / "both")
    assert {path.name for path in tmp_path.iterdir()} == {"alone", "both"}
    assert both.stdout.count("round 5/5") == 1


TOGETHER = """
import torch
from fednano.coordination.store import StopRequestedError
from fednano.coordination.memory import MemoryStore
from fednano.model.arch import SEED
from fednano.model.gpt import GPT, GPTConfig
from fednano.model.scaling import Depth
from fednano.training.replicas import joined

with joined("cpu") as replicas:
    draw = torch.Generator().manual_seed(0)
    model = GPT(GPTConfig.derive(Depth(1, sequence_len=8), SEED, 300))
    model.init_weights(draw)
    tokens, targets = (torch.randint(0, 300, (4, 8), generator=draw) for _ in range(2))
    targets[1, 1:] = targets[3, 2:] = -1  # the second rank's rows count 3 targets, the first one's 16
    whole = model(tokens, targets)
    whole.backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    mine = replicas.mine(tokens), replicas.mine(targets)
    loss = model(*mine)
    loss.backward()
    share = replicas.share(int((mine[1] != -1).sum()))
    assert share == ((3 if replicas.rank else 16) / 19)
    replicas.average(model.parameters(), share)
    assert abs(replicas.mean(loss.detach(), share) - float(whole)) < 1e-6
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-7)

    assert replicas.share(None if replicas.rank else 5) is None, "a rank without a batch stops both"
    assert replicas.share(0) == 0.0
    assert replicas.gather(("cursor", replicas.rank)) == [("cursor", 0), ("cursor", 1)]
    store = MemoryStore()
    replicas.heed(store)
    if replicas.rank:
        store.request_stop()
    try:
        replicas.heed(store)
    except StopRequestedError:
        print("stopped together", flush=True)
"""


def test_what_does_not_count_does_not_weigh(tmp_path: Path) -> None:
    (tmp_path / "together.py").write_text(TOGETHER)
    ended = torchrun(tmp_path, "together.py")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("stopped together") == 2


DIES = """
import os, sys
from fednano.core.ranks import rank
from fednano.training.local import LocalTrainer
step, taken = LocalTrainer._step, []

def dying(*arguments):
    taken.append(1)
    if rank() == 1 and len(taken) == 6:
        os._exit(7)
    return step(*arguments)

LocalTrainer._step = dying
from fednano.run import main
sys.exit(main())
"""


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_others_and_the_run_goes_on_later(tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(DIES)
    options = [*tiny, *STEPS, "runtime=centralized", "checkpoint_every=1", "hydra.run.dir=run"]
    ended = torchrun(tmp_path, "dies.py", *options)
    assert ended.returncode != 0
    assert "exitcode" in ended.stderr and ": 7" in ended.stderr
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) >= 1
    resumed = torchrun(tmp_path, "-m", "fednano.run", "resume=run")
    assert resumed.returncode == 0, resumed.stderr
    assert summary_of(tmp_path / "run")["inner_steps"] == 20


def test_what_does_not_divide_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    for override, (key, value, fits) in (
        ("runtime=centralized", ("clients", 4, 3)),
        ("runtime=virtual", ("batch_size", 8, 6)),
    ):
        with pytest.raises(ValueError, match=f"{key} must be a multiple of the 3 ranks, got {value}; use {fits}"):
            Experiment(compose_config([override]))


def test_all_devices_need_a_rank_each(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"name": "x", "device": "cuda", "threads": 0, "dtype": "float32", "compile": False, "tokens_per_s": (1,)}
    found = torch.cuda.device_count()
    if not found:
        with pytest.raises(
            ValueError, match=r"hardware.device must exist .*, got cuda but no CUDA device; use hardware=cpu"
        ):
            CudaDDP(**settings)
        pytest.skip("no CUDA device here")
    monkeypatch.setenv("WORLD_SIZE", str(found + 1))
    with pytest.raises(ValueError, match=f"must have one rank for each of the {found} CUDA devices, got {found + 1}"):
        CudaDDP(**settings)


@pytest.mark.cuda
@pytest.mark.slow
def test_all_devices_train(device: torch.device, tiny: list[str], tmp_path: Path) -> None:
    ranks, hardware = (torch.cuda.device_count(), "cuda_ddp") if device.type == "cuda" else (2, "cpu")
    options = [*tiny, *STEPS, "rounds=1", f"clients={ranks}", f"hardware={hardware}", "runtime=centralized"]
    ended = torchrun(tmp_path, "-m", "fednano.run", *options, "hydra.run.dir=run", ranks=ranks)
    assert ended.returncode == 0, ended.stderr
    assert summary_of(tmp_path / "run")["val_bpb"] < summary_of(tmp_path / "run")["val_bpb_initial"]


def test_an_apple_gpu_trains(command: Command, tiny: list[str], tmp_path: Path) -> None:
    if not torch.backends.mps.is_available():
        with pytest.raises(
            ValueError, match=r"hardware.device must exist .*, got mps but no MPS device; use hardware=cpu"
        ):
            Hardware(name="mps", device="mps", threads=0, dtype="float32", compile=False, tokens_per_s=(1.0,))
        pytest.skip("no Apple GPU here")
    ended = command("run", *tiny, "hardware=mps", "hydra.run.dir=run", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert summary_of(tmp_path / "run")["val_bpb"] < summary_of(tmp_path / "run")["val_bpb_initial"]
