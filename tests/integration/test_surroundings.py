"""Commands whose output has no reader, and runs that their surroundings do not allow."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def broken() -> Iterator[int]:
    """A pipe whose reader is gone."""
    reads, writes = os.pipe()
    os.close(reads)
    yield writes
    os.close(writes)


def _ends_quietly(broken: int, words: tuple[str, ...], folder: Path) -> None:
    command = [sys.executable, "-m", *words]
    ran = subprocess.run(command, stdout=broken, stderr=subprocess.PIPE, cwd=folder, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")


@pytest.mark.parametrize("words", [("fednano.run", "--cfg", "job"), ("fednano.report", "--help")])
def test_a_command_without_a_reader_ends_quietly(broken: int, words: tuple[str, ...], tmp_path: Path) -> None:
    _ends_quietly(broken, words, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("fednano.run", "--help"),
        ("fednano.prepare", "--help"),
        ("fednano.sample", "--cfg", "job"),
        ("fednano.evaluate", "--help"),
        ("fednano.bench", "--help"),
        ("fednano.flower_config", "--help"),
        ("fednano.fidelity", "--help"),
    ],
)
def test_every_command_without_a_reader_ends_quietly(broken: int, words: tuple[str, ...], tmp_path: Path) -> None:
    _ends_quietly(broken, words, tmp_path)


def test_a_run_without_readers_is_completed(broken: int, tiny: list[str], tmp_path: Path) -> None:
    """Both streams are closed, their encoding is ASCII, and the folder's name needs quoting."""
    own = tmp_path / 'O\'Neil "ü" {1},'
    own.mkdir()
    ran = subprocess.run(
        [sys.executable, "-m", "fednano.run", *tiny, "runtime.compute=analytic"],
        stdout=broken,
        stderr=broken,
        cwd=own,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "20"},
        check=False,
    )
    assert ran.returncode == 0
    [summary] = own.rglob("summary.json")
    assert json.loads(summary.read_text())["status"] == "completed"
    assert summary.with_name("report.html").exists()


@pytest.mark.slow
def test_an_invalid_key_of_wandb_leaves_no_folder(command: Command, tiny: list[str], tmp_path: Path) -> None:
    ran = command(
        "run",
        *tiny,
        *("runtime.compute=analytic", "logger=wandb", "logger.wandb.mode=online", "hydra.run.dir=run"),
        cwd=tmp_path,
        WANDB_API_KEY="garbage",
    )
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1].startswith("fednano: logger.wandb.mode=online: ")
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody can write")
def test_a_run_in_a_folder_that_cannot_be_written_is_refused(command: Command, tiny: list[str]) -> None:
    ran = command("run", *tiny, cwd=Path("/proc"))
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert ran.stderr.startswith("fednano: hydra.run.dir must be in a folder that can be written")
