"""W&B's own commands, `wandb sweep` and `wandb agent`, with a sweep file of fednano's and a server of the test's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.paths import REPOSITORY
from support.wandb_server import SweepServer, wandb_sweeps

POINTS = [{"optim.matrix_lr": 0.01, "strategy.outer.lr": 0.4, "strategy.outer.momentum": 0.5},
          {"optim.matrix_lr": 0.02, "strategy.outer.lr": 0.9, "strategy.outer.momentum": 0.0}]  # fmt: skip


def test_an_agent_runs_what_the_server_chooses(
    steady: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = yaml.safe_load((REPOSITORY / "sweeps" / "bayes.yaml").read_text(encoding="utf-8"))
    sweep["command"][-1:] = [*steady, "name=swept", "${args_no_hyphens}"]  # small
    (tmp_path / "bayes.yaml").write_text(yaml.safe_dump(sweep))
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    wandb = [sys.executable, "-m", "wandb"]
    with wandb_sweeps(SweepServer(POINTS)) as server:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # of the agent's interpreter
            "WANDB_BASE_URL": server.url,
            "WANDB_API_KEY": "0123456789" * 4,
            "WANDB_DIR": str(tmp_path),
            "HOME": str(tmp_path),
            "FEDNANO_DATA": str(tmp_path / "data"),
        }

        def run(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*wandb, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )

        made = run("sweep", "bayes.yaml")
        assert made.returncode == 0, made.stderr
        assert yaml.safe_load(server.config)["early_terminate"] == {"type": "hyperband", "min_iter": 2, "eta": 2}
        ran = run("agent", "--count", "2", "e/p/s")
        assert ran.returncode == 0, ran.stderr
    assert {"Viewer", "UpsertSweep", "SweepWithRuns", "CreateAgent", "Heartbeat"} <= set(server.asked)
    assert server.given == 2
    folders = sorted(tmp_path.glob("outputs/swept/*"))
    configs = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in folders]
    found = [
        {"optim.matrix_lr": config["optim"]["matrix_lr"]}
        | {f"strategy.outer.{key}": config["strategy"]["outer"][key] for key in ("lr", "momentum")}
        for config in configs
    ]
    assert found == POINTS, ran.stdout + ran.stderr
    assert all(json.loads((folder / "summary.json").read_text())["val_bpb"] > 0 for folder in folders)
    assert "UpsertBucket" in server.asked, "the runs were sent to the server"
