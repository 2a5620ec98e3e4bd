"""Packages that few runs need (Ray, W&B, plug-ins): a run without them, and the line that says what it lacks."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.absent import without
from support.house import modules

Command = Callable[..., subprocess.CompletedProcess[str]]
SHAPE = ("rounds=2", "runtime.compute=analytic", "hydra.run.dir=run")


@pytest.fixture
def lacking(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process without these packages."""
    names = ("ray", "wandb", "dp_accounting", "tensorboard", "trackio", "hydra_plugins")
    return without(tmp_path_factory.mktemp("absent"), *names)


def test_the_packages_are_missing_indeed(lacking: dict[str, str]) -> None:
    code = (
        "import importlib.util\n"
        "print([importlib.util.find_spec(name) for name in ('ray', 'wandb', 'dp_accounting', 'tensorboard')])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **lacking}, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[None, None, None, None]\n"


def test_every_module_can_be_imported(lacking: dict[str, str]) -> None:
    names = [f"fednano.{name}" for name in modules() if not name.endswith("__main__")]
    ran = subprocess.run(
        [sys.executable, "-c", f"import importlib\nfor name in {names}: importlib.import_module(name)"],
        env={**os.environ, **lacking},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.slow  # the bundle's test does the same with an environment of its own
def test_a_run_does_without(command: Command, tiny: list[str], lacking: dict[str, str], tmp_path: Path) -> None:
    ran = command("run", *tiny, *SHAPE, cwd=tmp_path, **lacking)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize(
    ("choices", "line"),
    [
        (
            ("runtime=simulation", "hydra.run.dir=run"),
            "fednano: runtime=simulation needs Ray, which is not installed; install it with: pip install "
            "'fednano[simulation]', or use runtime=virtual",
        ),
        (
            ("logger=wandb", *SHAPE),
            "fednano: logger=wandb needs wandb, which is not installed; install it with: pip install wandb, or use "
            "logger=local",
        ),
        (
            ("logger=[local,tensorboard]", *SHAPE),
            "fednano: logger=tensorboard needs tensorboard, which is not installed; install it with: pip install "
            "'fednano[tensorboard]', or use logger=local",
        ),
        (
            ("logger=trackio", *SHAPE),
            "fednano: logger=trackio needs trackio, which is not installed; install it with: pip install "
            "'fednano[trackio]', or use logger=local",
        ),
        (
            ("strategy=dp_fedavg", "guard=none", *SHAPE),
            "fednano: strategy.dp=gaussian needs dp-accounting, which is not installed; install it with: pip install "
            "'fednano[dp]', or use strategy/dp=none",
        ),
        (
            ("-m", "hydra/launcher=joblib", *SHAPE),
            "fednano: hydra/launcher=joblib needs hydra-joblib-launcher, which is not installed; install it with: pip "
            "install 'fednano[joblib]'",
        ),
        (
            ("-m", "hydra/launcher=slurm", *SHAPE),
            "fednano: hydra/launcher=slurm needs hydra-submitit-launcher, which is not installed; install it with: pip "
            "install 'fednano[submitit]'",
        ),
        (
            ("-m", "hydra/sweeper=optuna", *SHAPE),
            "fednano: hydra/sweeper=optuna needs hydra-optuna-sweeper, which is not installed; install it with: pip "
            "install 'fednano[optuna]'",
        ),
    ],
)
def test_a_choice_that_needs_one_is_refused(
    choices: tuple[str, ...],
    line: str,
    command: Command,
    steady: list[str],
    lacking: dict[str, str],
    tmp_path: Path,
) -> None:
    ran = command("run", *steady, *choices, cwd=tmp_path, **lacking)
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1] == line
    assert not list(tmp_path.iterdir())
