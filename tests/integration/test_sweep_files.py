"""The files in sweeps/ and the experiments that are sweeps: each of their runs is one that fednano composes."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from fednano.config.compose import compose_config
from fednano.config.places import conf_dir
from fednano.experiment.experiment import Experiment

SWEEPS = sorted((Path(__file__).parents[2] / "sweeps").glob("*.yaml"))


def overrides(sweep: dict[str, Any], drawn: dict[str, Any]) -> list[str]:
    """The words after the program that an agent starts a run with."""
    words: list[str] = []
    for part in sweep["command"][sweep["command"].index("${program}") + 1 :]:
        words += [f"{key}={value}" for key, value in drawn.items()] if part == "${args_no_hyphens}" else [part]
    return words


def values(parameter: dict[str, Any]) -> list[Any]:
    """The values of a parameter; of a distribution, its ends."""
    return parameter["values"] if "values" in parameter else [parameter["min"], parameter["max"]]


def test_there_is_a_sweep_of_each_method() -> None:
    sweeps = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in SWEEPS]
    assert {sweep["method"] for sweep in sweeps} == {"grid", "random", "bayes"}
    assert all(sweep["metric"] == {"name": "val_bpb", "goal": "minimize"} for sweep in sweeps)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_run_of_a_sweep_composes(path: Path) -> None:
    sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert sweep["command"][:3] == ["${env}", "${interpreter}", "-m"] and sweep["program"] == "fednano.run"
    keys = sweep["parameters"]
    draws = list(itertools.product(*(values(keys[key]) for key in keys)))
    for draw in draws[:: max(1, len(draws) // 12)]:
        config = compose_config(overrides(sweep, dict(zip(keys, draw, strict=True))))
        assert config.logger.wandb._target_ == "fednano.report.wandb_sink.Wandb"
        Experiment(config)


def test_the_sweep_of_strategies_is_the_experiment() -> None:
    sweep = yaml.safe_load((conf_dir().parent / "sweeps" / "strategies.yaml").read_text(encoding="utf-8"))
    experiment = yaml.safe_load((conf_dir() / "experiment" / "strategies.yaml").read_text(encoding="utf-8"))
    theirs = {key: ",".join(map(str, values["values"])) for key, values in sweep["parameters"].items()}
    assert theirs == {key: str(value) for key, value in experiment["hydra"]["sweeper"]["params"].items()}


@pytest.mark.parametrize("name", ["strategies", "codecs", "attacks", "churn", "speeds"])
def test_every_run_of_an_experiment_composes(name: str) -> None:
    experiment = yaml.safe_load((conf_dir() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8"))
    keys = {key: str(value).split(",") for key, value in experiment["hydra"]["sweeper"]["params"].items()}
    keys["seed"] = keys["seed"][:1]
    for draw in itertools.product(*keys.values()):
        words = [f"{key}={value}" for key, value in zip(keys, draw, strict=True)]
        Experiment(compose_config([f"experiment={name}", "hydra.mode=RUN", *words]))
