"""What a killed run leaves behind is gone once the run was resumed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.runs import StopsAfter

from fednano.experiment.job import finish
from fednano.training.checkpoint import Checkpoints

Run = Callable[..., dict[str, Any]]

OPTIONS = ("runtime=centralized", "rounds=4", "eval_tokens=64", "checkpoint_every=1", "checkpoint_keep=1")


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_resumed_run_has_the_files_of_one_that_was_never_stopped(run: Run) -> None:
    whole = run(*OPTIONS, folder="whole")
    folder = run(*OPTIONS, store=StopsAfter(11))["folder"]
    (newest,) = (folder / "checkpoints").iterdir()
    shutil.copytree(newest, newest.with_name("round_000000"))  # killed before it was removed,
    for half in (".round_000001.7.old", ".round_000003.7.tmp"):  # while it was, while one was written
        shutil.copytree(newest, newest.with_name(half))
    for name in ("summary.json", "report.html"):
        (folder / f"{name}.7.140.tmp").touch()
    run(*OPTIONS, resume=True)
    assert names(folder) == names(whole["folder"])


def test_resuming_from_the_last_round_removes_surplus_checkpoints(run: Run) -> None:
    folder = run(*OPTIONS)["folder"]
    before = names(folder)
    (newest,) = (folder / "checkpoints").iterdir()
    shutil.copytree(newest, newest.with_name("round_000000"))
    (folder / "summary.json").unlink()
    run(*OPTIONS, resume=True)
    assert names(folder) == before


def test_a_checkpoint_that_is_being_removed_is_not_named_like_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def killed(folder: Path, **_: object) -> None:
        if (folder / "state.json").exists():
            (folder / "state.json").unlink()
            raise KilledError

    monkeypatch.setattr("fednano.training.checkpoint.shutil.rmtree", killed)
    with pytest.raises(KilledError):
        run(*OPTIONS, folder="killed")
    monkeypatch.undo()
    found = list((tmp_path / "killed" / "checkpoints").glob("round_*"))
    assert found
    for path in found:
        Checkpoints.load(path)


def test_the_report_of_a_completed_run_is_written_if_it_is_missing(run: Run) -> None:
    folder = run("runtime.compute=analytic")["folder"]
    before = names(folder)
    assert finish(folder) == "there is nothing to do"
    (folder / "report.html").rename(folder / "report.html.7.140.tmp")
    assert finish(folder) == "its report.html was missing and is written"
    assert names(folder) == before
