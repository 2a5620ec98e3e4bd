"""Strategies and codecs on every runtime: the same weights everywhere."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]

THREE = ("clients=3", "rounds=3")
FEEDBACK = ("codec=int4", "codec.error_feedback=true", "codec.rounding=stochastic", "codec@download=bf16")
STREAMED = ("strategy=streaming_diloco", "strategy.stream.delay=1", *FEEDBACK[:2])


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["simulation", "deployment"])
@pytest.mark.parametrize(
    "method",
    [
        ("strategy=diloco",),
        ("strategy=fedadam",),
        ("strategy=median",),
        FEEDBACK,
        ("strategy=sparseloco", "codec=topk"),
        STREAMED,
    ],
    ids=["diloco", "fedadam", "median", "int4", "sparseloco", "streaming"],
)
def test_a_method_trains_the_same_on_every_runtime(
    command: Command, steady: list[str], tmp_path: Path, runtime: str, method: tuple[str, ...]
) -> None:
    found = []
    for name in ("virtual", runtime):
        words = (f"runtime={name}", f"hydra.run.dir={name}")
        done = command("run", *steady, *THREE, *method, *words, cwd=tmp_path, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(json.loads((tmp_path / name / "summary.json").read_text()))
    assert found[0]["weights_sha256"] == found[1]["weights_sha256"]
    assert found[0]["bytes"] == found[1]["bytes"]
