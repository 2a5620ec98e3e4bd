"""A small real corpus and a quick way to run an experiment on it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.texts import write_docstrings

from fednano.process.environment import QUIET

if TYPE_CHECKING:
    import torch
    from support.deployed import Deployed
    from support.forks import Forks


for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    # Under nohup, or in the background of a script, they are ignored, and children would inherit that.
    if signal.getsignal(ignored) == signal.SIG_IGN:
        signal.signal(ignored, signal.SIG_DFL)
os.environ.update(QUIET)
if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests that share the cores get one each, and so do the processes that they start.
    os.environ["OMP_NUM_THREADS"] = "1"


DEVICE_VARIABLE = "FEDNANO_TEST_DEVICE"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        default=os.environ.get(DEVICE_VARIABLE, "cpu"),
        help=f"torch device of the tests marked cuda, which are small on cpu; default: ${DEVICE_VARIABLE}, or cpu",
    )


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> "torch.device":
    """The device of --device. Tests with this fixture are marked cuda."""
    import torch

    chosen = torch.device(request.config.getoption("--device"))
    if chosen.type == "cuda":
        # Torch reads it once, at the first product of the process.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return chosen


@pytest.fixture(autouse=True)
def nothing_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test's command line allows ends with the test."""
    monkeypatch.setenv("FEDNANO_ALLOW_MODULES", "")


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources of English text: the docstrings of some modules of the standard library, many times a paragraph."""
    folder = tmp_path_factory.mktemp("texts")
    write_docstrings(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides of a run that takes a second or two."""
    return [
        "data=text",
        f"data.path={text_folder}",
        f"data.root={tmp_path_factory.mktemp('corpora')}",
        "tokenizer.vocab_size=300",
        "model.sequence_len=16",
        "arch.mlp_ratio=1",  # orthogonalising the matrices of the MLP takes most of a step this small
        "batch_size=2",
        "eval_tokens=512",
        "strategy.local_steps=4",
        "optim.state=keep",
        "hardware.threads=1",
        "hardware.tokens_per_s=[32]",  # one step a second
        "volatility.mean_up_s=8",
        "volatility.mean_down_s=3",
        "rounds=3",
    ]


@pytest.fixture
def run(tiny: list[str], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run an experiment in a folder below tmp_path; returns its summary, with the folder under "folder"."""
    from fednano.config.compose import compose_config
    from fednano.coordination.memory import MemoryStore
    from fednano.core.progress import Silent
    from fednano.experiment.experiment import Experiment
    from fednano.runtime.run_folder import run_in_folder
    from fednano.training.checkpoint import Checkpoints

    def go(
        *overrides: str, folder: str = "run", store: MemoryStore | None = None, resume: bool = False
    ) -> dict[str, Any]:
        path = tmp_path / folder
        path.mkdir(exist_ok=resume)
        snapshot = Checkpoints.newest(path / "checkpoints", path / "events.jsonl") if resume else None
        cfg = compose_config([*tiny, *overrides])
        experiment = Experiment(cfg)
        parts = experiment.parts(experiment.prepare(Silent()), store or MemoryStore())
        logger = experiment.groups.logger
        run_in_folder(path, "test", experiment.runtime, parts, logger, {"name": "test"}, snapshot)
        return {**json.loads((path / "summary.json").read_text()), "folder": path}

    return go


@pytest.fixture
def steady(tiny: list[str]) -> list[str]:
    """Overrides of a tiny run of two clients that never leave."""
    words = [word for word in tiny if not word.startswith("volatility.")]
    return [*words, "volatility=none", "clients=2", "rounds=2"]


@pytest.fixture
def deploy(steady: list[str], tmp_path: Path) -> Iterator[Callable[..., "Deployed"]]:
    """Start a tiny deployment; it is over when the test is."""
    from support.deployed import Deployed

    started: list[Deployed] = []
    with tempfile.TemporaryDirectory(prefix="fn_") as temporary:

        def go(*overrides: str) -> Deployed:
            started.append(Deployed([*steady, *overrides], tmp_path / "run", temporary))
            return started[-1]

        yield go
        for deployed in started:
            deployed.process.kill()
            deployed.process.wait()
            deployed.output.close()


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Forks]":
    """A process that runs commands without importing torch for each."""
    from support.forks import Forks

    forks = Forks(tmp_path_factory.mktemp("forks"))
    yield forks
    forks.close()


@pytest.fixture
def command(forks: "Forks") -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m fednano.NAME ARGUMENTS` from a folder as a user would; with variables, in a new interpreter."""

    def go(name: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        if sys.platform == "linux" and not environment:
            return forks.run(name, arguments, cwd, os.environ)
        return subprocess.run(
            [sys.executable, "-m", f"fednano.{name}", *arguments],
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return go
