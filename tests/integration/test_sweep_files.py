"""The files in sweeps/ and the experiments that are sweeps: each of their runs is one that fednano composes."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig

from fednano.config.compose import compose_config
from fednano.config.places import conf_dir
from fednano.experiment.experiment import Experiment

FOLDER = conf_dir() / "experiment" / "reproduce"
STUDIES = sorted(path.stem for path in FOLDER.glob("[!_]*.yaml"))
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
        assert config.logger.wandb._target_ == "fednano.report.tracking.wandb_sink.Wandb"
        Experiment(config)


def test_the_sweep_of_strategies_is_the_experiment() -> None:
    sweep = yaml.safe_load((conf_dir().parent / "sweeps" / "strategies.yaml").read_text(encoding="utf-8"))
    experiment = yaml.safe_load((conf_dir() / "experiment" / "strategies.yaml").read_text(encoding="utf-8"))
    theirs = {key: ",".join(map(str, values["values"])) for key, values in sweep["parameters"].items()}
    assert theirs == {key: str(value) for key, value in experiment["hydra"]["sweeper"]["params"].items()}


def runs_of(name: str) -> list[DictConfig]:
    """The configurations of an experiment that is a sweep, with its first seed alone."""
    experiment = yaml.safe_load((conf_dir() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8"))
    keys = {key: str(value).split(",") for key, value in experiment["hydra"]["sweeper"]["params"].items()}
    keys["seed"] = keys.get("seed", ["0"])[:1]
    return [
        compose_config([f"experiment={name}", "hydra.mode=RUN", *map("=".join, zip(keys, draw, strict=True))])
        for draw in itertools.product(*keys.values())
    ]


@pytest.mark.parametrize("name", ["strategies", "codecs", "attacks", "churn", "speeds"])
def test_every_run_of_an_experiment_composes(name: str) -> None:
    for config in runs_of(name):
        Experiment(config)


@pytest.mark.parametrize("study", STUDIES)
def test_every_run_of_a_study_is_small(study: str) -> None:
    configs = runs_of(f"reproduce/{study}")
    assert 2 <= len(configs) <= 4
    for config in configs:
        Experiment(config)
        assert (config.name, config.model.name, config.tokenizer.vocab_size) == (f"reproduce_{study}", "micro", 1024)
        assert (config.rounds, config.budget.tokens) == (None, 650_000)
        assert config.clients * config.batch_size <= 32
        assert config.eval_every > 1000, "evaluated at the end alone"


def test_every_study_is_described_and_has_a_full_size() -> None:
    page = (conf_dir().parent / "docs" / "reproduce.md").read_text(encoding="utf-8")
    for study in STUDIES:
        assert f"experiment=reproduce/{study}" in page
    full = {path.stem for path in (FOLDER / "full").glob("[!_]*.yaml")}
    assert set(STUDIES) - full == {"curtailment", "non_iid"}
    assert "experiment=curtailment`" in page and "experiment=reproduce/full/diloco partition=source" in page
    for name in full:
        assert f"experiment=reproduce/full/{name}" in page
        composed = compose_config([f"experiment=reproduce/full/{name}"])
        assert composed.name == f"reproduce_full_{name}"
        Experiment(composed)
