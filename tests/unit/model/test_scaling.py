"""What the depth derives: tokens, batch, learning-rate factors, and a run's shape where it is left open."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fednano.config.compose import compose_config
from fednano.experiment.experiment import Experiment
from fednano.model.arch import NANOCHAT, SEED
from fednano.model.gpt import GPT, GPTConfig
from fednano.model.scaling import (
    Depth,
    batch_lr_scale,
    batch_tokens,
    block_matrices,
    derived_shape,
    multiplied_parameters,
    training_tokens,
    width_lr_scale,
)


@pytest.mark.parametrize("arch", [SEED, NANOCHAT])
@pytest.mark.parametrize("depth", [Depth(3), Depth(4, kv_groups=2)])
def test_matrices_are_those_of_the_model(depth: Depth, arch: Any) -> None:
    with torch.device("meta"):
        model = GPT(GPTConfig.derive(depth, arch, 300))
    assert block_matrices(depth, arch) == sum(p.numel() for p in model.blocks.parameters())
    assert multiplied_parameters(depth, 300, arch) == block_matrices(depth, arch) + model.head.weight.numel()


def test_tokens_and_batch_by_hand() -> None:
    assert training_tokens(Depth(2), 32_768, SEED) == 12 * (12 * 2 * 128**2 + 32_768 * 128)
    assert batch_tokens(Depth(12), 32_768, NANOCHAT) == 2**19
    ratio = (12 * 20 * 1280**2 + 32_768 * 1280) / (12 * 12 * 768**2 + 32_768 * 768)
    exact = math.log2(2**19 * ratio**0.383)
    assert batch_tokens(Depth(20), 32_768, SEED) == 2 ** round(exact) == 2**20


def test_learning_rate_factors_by_hand() -> None:
    assert width_lr_scale(768) == 1.0
    assert width_lr_scale(192) == 2.0
    assert batch_lr_scale(2**19) == 1.0
    assert batch_lr_scale(2**17) == 0.5


def test_shapes_that_are_left_open_follow_from_the_depth() -> None:
    depth = Depth(12, sequence_len=2048)
    tokens = training_tokens(depth, 32_768, SEED)
    # 2^19 tokens a step: four clients of 64 rows of 2048.
    assert derived_shape(depth, 32_768, SEED, 4, 30, None) == (64, math.ceil(tokens / (30 * 2**19)))
    assert derived_shape(depth, 32_768, SEED, 4, 30, 8) == (8, math.ceil(tokens / (30 * 2**16)))
    assert derived_shape(depth, 32_768, SEED, 10**6, 30, None)[0] == 1


def test_null_is_resolved_and_values_stay(tiny: list[str]) -> None:
    cfg = compose_config([*tiny, "arch.mlp_ratio=4", "batch_size=null", "rounds=null"])
    experiment = Experiment(cfg)
    expected = derived_shape(Depth(2, sequence_len=16), 300, SEED, 4, 4, None)
    assert (experiment.settings.batch_size, experiment.settings.rounds) == expected
    resolved = experiment.resolved(cfg)
    assert (resolved["batch_size"], resolved["rounds"]) == expected
    assert Experiment(compose_config([*tiny, "batch_size=null"])).settings.rounds == 3


@pytest.mark.parametrize("arch", ["seed", "nanochat"])
@pytest.mark.parametrize("depth", range(2, 21))
def test_every_depth_composes_with_every_architecture(arch: str, depth: int) -> None:
    groups = Experiment(compose_config([f"model=d{depth}", f"arch={arch}", "optim=nanochat"])).groups
    with torch.device("meta"):
        GPT(GPTConfig.derive(groups.model, groups.arch, 4096))


@pytest.mark.parametrize("runtime", ["virtual", "centralized"])
def test_nanochat_runs_and_learns(run: Callable[..., dict[str, Any]], runtime: str) -> None:
    options = ("arch=nanochat", "optim=nanochat", "optim.scale_with_batch=false", f"runtime={runtime}", "rounds=4")
    summary = run(*options)
    assert summary["status"] == "completed"
    assert summary["val_bpb"] < summary["val_bpb_initial"] - 0.05
    assert summary["weights_sha256"] == run(*options, folder="again")["weights_sha256"]


@pytest.mark.slow
def test_the_command_runs_samples_and_writes_what_it_derived(
    command: Callable[..., Any], tiny: list[str], tmp_path: Path
) -> None:
    shape = ("model.sequence_len=512", "batch_size=null", "clients=32", "eval_tokens=1024")
    options = ("arch=nanochat", "optim=nanochat", "rounds=1", "strategy.local_steps=1", "hydra.run.dir=run")
    ended = command("run", *tiny, *shape, *options, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (written["batch_size"], written["arch"]["name"]) == (4, "nanochat")
    assert (tmp_path / "run" / "report.html").exists()
    sampled = command("sample", "model_dir=run/model", "prompt=The", "tokens=5", cwd=tmp_path)
    assert sampled.returncode == 0, sampled.stderr
    assert sampled.stdout.startswith("The")
