"""Run folders from the command line: one owner each, nothing overwritten, and usable from any folder."""

import json
import pickle
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fednano.core.claim import CLAIM, claim, claimant_lives
from fednano.evaluate import main as evaluate
from fednano.run import main

Go = Callable[..., int]


@pytest.fixture
def go(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Go:
    """Run the command in a folder `here` in this process; returns its exit code."""
    words = [word for word in tiny if not word.startswith(("volatility.", "rounds="))]
    basics = [*words, "volatility=none", "clients=2", "rounds=1", "runtime.compute=analytic"]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*overrides: str, plain: bool = False) -> int:
        monkeypatch.setattr(sys, "argv", ["run", *([] if plain else basics), *overrides])
        try:
            return main()
        except SystemExit as ended:
            return int(str(ended.code or 0))

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def leave_claim(folder: Path) -> Path:
    """The claim that a killed process left in `folder`."""
    path = folder / CLAIM
    path.write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1}))
    return path


def test_a_claim_that_a_killed_run_left_goes_with_the_next_run(go: Go, tiny: list[str]) -> None:
    Path("run").mkdir()
    left = leave_claim(Path("run"))
    assert go("hydra.run.dir=run", "rounds=2", "checkpoint_every=1") == 0
    assert not left.exists()
    leave_claim(Path("run"))
    assert go("resume=run", plain=True) == 0, "completed"
    assert not left.exists()
    leave_claim(Path("run"))
    for name in ("summary.json", "report.html"):
        Path("run", name).unlink()
    assert go("resume=run", plain=True) == 0
    assert Path("run/report.html").exists()
    assert not left.exists()


def test_a_run_that_is_continued_has_a_claim_of_its_own(
    go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else whoever looks at the folder would take the run for one whose process is gone."""
    from fednano.runtime import run_folder

    seen: list[bool | None] = []
    real = run_folder.run_in_folder

    def watched(folder: Path, *given: Any) -> Any:
        seen.append(claimant_lives(folder))
        return real(folder, *given)

    monkeypatch.setattr(run_folder, "run_in_folder", watched)
    assert go("hydra.run.dir=run", "rounds=2", "checkpoint_every=1") == 0
    for left in (True, False):
        Path("run/summary.json").unlink()
        shutil.rmtree("run/checkpoints/round_000002", ignore_errors=True)
        if left:
            leave_claim(Path("run"))
        capsys.readouterr()
        assert go("resume=run", plain=True) == 0
        out = capsys.readouterr().out
        assert "continued after round 1/2  " in out and "\nround 1/2" not in out and "\nround 2/2" in out
    assert go("-m", "hydra.sweep.dir=sweep", "seed=1,2") == 0
    assert seen == [True] * 5
    assert not list(tmp_path.rglob(CLAIM))


def line(capsys: pytest.CaptureFixture[str]) -> str:
    """The only line on standard error."""
    (only,) = capsys.readouterr().err.splitlines()
    return str(only)


def test_a_folder_in_use_is_refused_and_unchanged(go: Go, capsys: pytest.CaptureFixture[str]) -> None:
    other = claim(Path("run"))
    Path("run/.hydra").mkdir()
    Path("run/.hydra/overrides.yaml").write_text("- seed=1\n")
    before = contents(Path("run"))
    assert go("hydra.run.dir=run", "seed=2") == 2
    assert line(capsys).startswith(f"fednano: hydra.run.dir must not be in use, got {Path('run').absolute()}, which ")
    assert contents(Path("run")) == before
    other.release()
    assert go("hydra.run.dir=run", "seed=2") == 0
    assert yaml.safe_load(Path("run/.hydra/overrides.yaml").read_text())[-1] == "seed=2"
    assert not list(Path("run").glob(".claim*"))


def test_a_folder_that_holds_a_run_is_refused_and_unchanged(go: Go, capsys: pytest.CaptureFixture[str]) -> None:
    assert go("hydra.run.dir=run") == 0
    before = contents(Path("run"))
    capsys.readouterr()
    assert go("hydra.run.dir=run", "seed=2") == 2
    assert "hydra.run.dir must not hold a run" in line(capsys)
    assert go("-m", "seed=1,2", "hydra.sweep.dir=.", "hydra.sweep.subdir=run") == 2
    assert "hydra.sweep.subdir must give each job a folder of its own" in line(capsys)
    assert go("-m", "name=run,other", "hydra.sweep.dir=.", "hydra.sweep.subdir=${name}") == 2
    assert "hydra.sweep.dir must not hold a run" in line(capsys)
    assert contents(Path("run")) == before


def test_jobs_of_one_second_get_folders_of_their_own(go: Go) -> None:
    for seed in (1, 2):
        assert go(f"seed={seed}", "hydra.run.dir=out/${now:x}") == 0  # a time that stands still
    seeds = {path.name: json.loads((path / "summary.json").read_text())["seed"] for path in Path("out").iterdir()}
    assert seeds == {"x": 1, "x_1": 2}
    for path in Path("out").iterdir():
        assert f"seed={seeds[path.name]}" in yaml.safe_load((path / ".hydra/overrides.yaml").read_text())


def test_sweeps_of_one_second_get_folders_of_their_own(go: Go) -> None:
    for seeds in ("1,2", "3,4"):
        assert go("-m", f"seed={seeds}", "hydra.sweep.dir=out/${now:x}") == 0  # a time that stands still
    found = {
        f"{sweep.name}/{job.name}": json.loads((job / "summary.json").read_text())["seed"]
        for sweep in Path("out").iterdir()
        for job in sweep.glob("[0-9]")
    }
    assert found == {"x/0": 1, "x/1": 2, "x_1/0": 3, "x_1/1": 4}
    assert json.loads(Path("out/x_1/.sweep/1.json").read_text())["status"] == "completed"


def test_what_hydra_documents_of_a_sweep_works(go: Go, tmp_path: Path, text_folder: Path) -> None:
    (tmp_path / "more" / "experiment").mkdir(parents=True)
    (tmp_path / "more" / "experiment" / "lab.yaml").write_text("# @package _global_\nname: lab\n")
    shutil.copytree(text_folder, "texts")
    words = ["hydra.mode=MULTIRUN", "seed=range(1,3)", "strategy=glob(fedavg*)", "hydra.job.chdir=true"]
    own = [f"hydra.searchpath=[file://{tmp_path}/more]", "experiment=lab", "data.path=texts"]
    assert go(*words, *own, "hydra.sweep.dir=${name}/sweep") == 0
    found = [yaml.safe_load(path.read_text()) for path in sorted(Path("lab/sweep").glob("[0-9]/config.yaml"))]
    assert [(config["seed"], config["strategy"]["name"]) for config in found] == [
        (1, "fedavg"), (1, "fedavgm"), (2, "fedavg"), (2, "fedavgm"),
    ]  # fmt: skip
    assert found[0]["data"]["path"] == str(tmp_path / "here" / "texts")


def test_a_sweep_with_files_of_the_users_own_is_continued_with_them(
    go: Go, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "more" / "experiment").mkdir(parents=True)
    (tmp_path / "more" / "experiment" / "lab.yaml").write_text("# @package _global_\nname: lab\n")
    more = ("--config-dir", str(tmp_path / "more"))
    assert go("-m", *more, "experiment=lab", "seed=1,2", "hydra.sweep.dir=sweep") == 0
    out = capsys.readouterr().out
    [told] = [line for line in out.splitlines() if line.startswith("job 1 (2 of 2): ")]
    assert told.endswith("experiment=lab seed=2")
    assert go("sweep.resume=sweep", plain=True) == 2
    said = f"sweep.resume=sweep must be given with --config-dir, as it began; add --config-dir {tmp_path}/more"
    assert line(capsys) == f"fednano: {said}"
    assert go(*more, "sweep.resume=sweep", plain=True) == 0


@pytest.mark.slow
def test_a_sweep_of_an_earlier_version_is_continued(go: Go, capsys: pytest.CaptureFixture[str]) -> None:
    assert go("-m", "seed=1,2,3", "hydra.sweep.dir=sweep") == 0
    shutil.rmtree("sweep/.sweep")
    shutil.rmtree("sweep/2")
    shutil.rmtree("sweep/1/checkpoints")  # it ended before its first one, and begins again
    Path("sweep/1/summary.json").unlink()
    before = contents(Path("sweep/0"))
    capsys.readouterr()
    assert go("sweep.resume=sweep", plain=True) == 0
    assert capsys.readouterr().out.count("completed before") == 1
    now = contents(Path("sweep/0"))
    assert {name: now[name] for name in before if ".hydra" not in name} == {
        name: data for name, data in before.items() if ".hydra" not in name
    }
    assert [json.loads(Path(f"sweep/{job}/summary.json").read_text())["seed"] for job in range(3)] == [1, 2, 3]


def test_what_cannot_continue_a_sweep_is_refused(
    go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert go("-m", "seed=shuffle(1,2)", "hydra.sweep.dir=sweep") == 0
    before = contents(Path("sweep"))
    capsys.readouterr()

    def refused(*words: str) -> str:
        assert go(*words, plain=True) == 2
        return line(capsys)

    said = refused("sweep.resume=sweep", "seed=3")
    assert "seed=3 would change the sweep that sweep.resume=sweep continues; leave it out" in said
    assert "has no .sweep/sweep.json; give the folder of a sweep" in refused("sweep.resume=sweep/0")
    assert "sweep.resume must name the folder of a sweep, got nothing" in refused("sweep.resume=")
    assert "sweep.resume must be given on the command line as sweep.resume=FOLDER" in refused("++sweep.resume=sweep")
    claimed = claim(Path("sweep"))
    assert "must not be in use" in refused("sweep.resume=sweep", "checkpoint_keep=1")
    claimed.release()
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    assert f"must be given where the sweep began, {tmp_path}/here" in refused("sweep.resume=../here/sweep")
    monkeypatch.chdir(tmp_path / "here")
    assert contents(Path("sweep")) == before
    assert go("-m", "seed=shuffle(1,2)", "hydra.sweep.dir=sweep", "sweep.resume=sweep") == 0, "the same command again"


def test_a_sweep_never_overwrites_another(go: Go, capsys: pytest.CaptureFixture[str]) -> None:
    assert go("-m", "seed=1,2", "hydra.sweep.dir=sweep") == 0
    before = contents(Path("sweep"))
    assert "multirun.yaml" in before
    capsys.readouterr()
    assert go("-m", "seed=3,4", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=s${seed}") == 2
    assert "hydra.sweep.dir must not hold the results of a sweep, got " in line(capsys)
    assert contents(Path("sweep")) == before


def test_a_run_is_used_from_elsewhere_even_if_its_text_is_gone(
    go: Go, tmp_path: Path, text_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(text_folder, "texts")
    own = ["data.path=texts", "data.root=data", "hydra.job.chdir=true", "hydra.run.dir=run", "runtime.compute=torch"]
    assert go(*own, "rounds=2", "checkpoint_every=1") == 0
    assert sorted(path.name for path in Path().iterdir()) == ["data", "run", "texts"]
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert (config["data"]["path"], config["data"]["root"]) == (f"{tmp_path}/here/texts", f"{tmp_path}/here/data")
    whole = json.loads(Path("run/summary.json").read_text())
    shutil.rmtree("texts")
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    assert evaluate(["model_dir=../here/run/model", "eval_tokens=512", "tasks=none"]) == 0
    assert json.loads(Path("../here/run/evaluation.json").read_text())["validation"]["bpb"] > 0
    Path("../here/run/summary.json").unlink()
    assert go("resume=../here/run", plain=True) == 0
    again = json.loads(Path("../here/run/summary.json").read_text())
    assert (again["tape_sha256"], again["weights_sha256"]) == (whole["tape_sha256"], whole["weights_sha256"])
    assert not list(Path().iterdir())


def test_what_hydra_pickled_runs_once_more_in_a_folder_of_its_own(
    go: Go, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saver = "{_target_: hydra.experimental.callbacks.PickleJobInfoCallback}"
    assert go("hydra.run.dir=run", f"+hydra.callbacks.pickle={saver}", "seed=5") == 0
    before = contents(Path("run"))
    assert go("--experimental-rerun", "run/.hydra/config.pickle", plain=True) == 0
    assert contents(Path("run")) == before
    first, second = (json.loads(Path(f"{name}/summary.json").read_text()) for name in ("run", "run_1"))
    assert first["tape_sha256"] == second["tape_sha256"]
    capsys.readouterr()
    Path("no.pickle").write_bytes(pickle.dumps("text"))
    for name in ("no.pickle", "nowhere"):
        assert go("--experimental-rerun", name, plain=True) == 2
        assert f"--experimental-rerun must be a config.pickle of Hydra's, got {name} (" in line(capsys)


def test_a_folder_that_cannot_be_made_is_refused(go: Go, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert go("hydra.run.dir=file/run") == 2
    assert "which is a file; give a folder" in line(capsys)
