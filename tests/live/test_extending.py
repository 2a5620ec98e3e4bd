"""A user's own strategy and codec on every runtime, with the same weights everywhere."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.paths import REPOSITORY

Command = Callable[..., subprocess.CompletedProcess[str]]

WORDS = ("--config-dir", "conf", "strategy=feddyn", "codec=sign", "data=manual", "volatility=none", "clients=2",
         "tokenizer.vocab_size=300", "model.sequence_len=16", "batch_size=2", "eval_tokens=256", "rounds=3",
         "strategy.local_steps=4", "hardware.threads=1")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["simulation", "deployment"])
def test_ones_own_classes_train_the_same_on_every_runtime(command: Command, tmp_path: Path, runtime: str) -> None:
    mine = Path(shutil.copytree(REPOSITORY / "docs" / "extending", tmp_path / "project"))
    found = []
    for name in ("virtual", runtime):
        words = (f"runtime={name}", f"hydra.run.dir={name}", f"data.root={mine / 'corpora'}")
        done = command("run", *WORDS, *words, cwd=mine, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(json.loads((mine / name / "summary.json").read_text()))
    assert found[0]["weights_sha256"] == found[1]["weights_sha256"]
    assert found[0]["bytes"] == found[1]["bytes"]
