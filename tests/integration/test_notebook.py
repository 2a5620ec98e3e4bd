"""Experiments started from Python, as a notebook does, and what comes back."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import fednano

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebooks" / "first_figure.ipynb"


@pytest.fixture
def words(steady: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides of a tiny run, which leaves its folder below tmp_path."""
    monkeypatch.chdir(tmp_path)
    return [*steady, "rounds=1"]


def test_a_run_is_started_and_loaded(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    run = fednano.fit([*words, "name=first"])
    assert (run.status, run.folder.parent) == ("completed", Path("outputs/first"))
    assert len(run.rounds) == 1
    assert "round 1/1" in capfd.readouterr().out


@pytest.mark.slow
def test_an_interrupted_run_is_resumed(words: list[str]) -> None:
    run = fednano.fit([*words, "rounds=3", "checkpoint_every=1"], quiet=True)
    summary = run.folder / "summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"status": "interrupted"}))
    assert fednano.fit([f"resume={run.folder}"], quiet=True).folder == run.folder


def test_a_sweep_is_started_and_loaded(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    runs = fednano.sweep([*words, "strategy.local_steps=1,2", "hydra.sweep.dir=mine"], quiet=True)
    assert list(runs.summary["local_steps"]) == [1, 2]
    assert [run.folder for run in runs] == [Path("mine/0"), Path("mine/1")]
    assert capfd.readouterr().out == ""


def test_bad_input_raises_with_its_remedy(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^rnds=3 sets a key that does not exist; did you mean rounds"):
        fednano.fit([*words, "rnds=3"], quiet=True)
    assert not Path("outputs").exists()


def test_the_notebook_goes_from_ten_runs_to_a_figure(tiny: list[str], tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    data = [cell for cell in notebook.cells if cell.source.startswith("data = ")]
    assert len(data) == 1
    data[0].source = f"data = {[*tiny, 'rounds=1']!r}"
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "first_figure.pdf").read_bytes().startswith(b"%PDF")
    assert len(fednano.load_runs(tmp_path / "outputs")) == 10
