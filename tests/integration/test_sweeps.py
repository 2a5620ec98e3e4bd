"""Sweeps from the command line: jobs that fail, sweeps that are continued, Hydra's plug-ins, the table at the end."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest
import yaml
from joblib import cpu_count
from support.awaiting import until
from support.deployed import linux
from support.paths import REPOSITORY
from support.slurm import install

from fednano.core.claim import CLAIM
from fednano.experiment.sweep import SweepRecord

Command = Callable[..., subprocess.CompletedProcess[str]]
Sweep = Callable[..., subprocess.CompletedProcess[str]]

OWN = ("--allow-module", "support.swept", "strategy.outer._target_=support.swept.Swept", "checkpoint_every=1")
MOMENTA = "strategy.outer.momentum=0.5,0.6,0.9"


@pytest.fixture
def sweep(steady: list[str], tmp_path: Path) -> Sweep:
    """Run a sweep of tiny runs, with an outer optimizer that does as files in the current folder say."""

    def go(*words: str, given: list[str] | None = None) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "tests")}
        environment.pop("OMP_NUM_THREADS", None)
        basics = [*steady, *OWN] if given is None else given
        return subprocess.run(
            [sys.executable, "-m", "fednano.run", *basics, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return go


def table(done: subprocess.CompletedProcess[str]) -> dict[int, list[str]]:
    """The table at the end of a sweep: the cells of each job's line."""
    lines = done.stdout[done.stdout.rindex("\njob ") :].splitlines()[2:]
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines if re.match(r"\s+\d", line)]
    return {int(row[0]): row[1:] for row in rows}


def statuses(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [row[1] for _, row in sorted(table(done).items())]


def summary(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return told


def test_a_job_that_fails_ends_no_sweep_and_is_continued(sweep: Sweep, tmp_path: Path) -> None:
    whole = sweep("-m", MOMENTA, "hydra.sweep.dir=whole")
    assert (whole.returncode, statuses(whole)) == (0, ["completed"] * 3), whole.stderr
    assert table(whole)[1][0] == "strategy.outer.momentum=0.6", "only what varies"
    assert table(whole)[1][2] == f"{summary(tmp_path / 'whole/1')['val_bpb']:.5g}"
    assert "\x1b" not in whole.stdout

    (tmp_path / "broken").touch()
    words = ("-m", MOMENTA, "hydra.sweep.dir=sweep")
    ended = sweep(*words)
    assert (ended.returncode, statuses(ended)) == (1, ["completed", "failed", "completed"])
    assert "fednano: job 1: RuntimeError: no such luck" in ended.stderr.splitlines()
    assert f"continue the sweep with sweep.resume={tmp_path / 'sweep'}" in ended.stdout

    (tmp_path / "broken").unlink()
    shutil.rmtree(tmp_path / "sweep" / "2")
    (tmp_path / "sweep" / ".sweep" / "2.json").unlink()
    untouched = (tmp_path / "sweep/0/events.jsonl").stat()
    again = sweep(*words, "sweep.resume=sweep")
    assert (again.returncode, statuses(again)) == (0, ["completed before", "completed", "completed"]), again.stderr
    assert (tmp_path / "sweep/0/events.jsonl").stat() == untouched
    for job in ("0", "1", "2"):
        key = "weights_sha256"
        assert summary(tmp_path / "sweep" / job)[key] == summary(tmp_path / "whole" / job)[key]


@pytest.mark.slow
def test_joblib_gives_each_job_its_share_of_the_cores(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    words = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hardware.threads=0", "hydra.sweep.dir=sweep")
    done = sweep("-m", MOMENTA, *words)
    assert (done.returncode, statuses(done)) == (1, ["completed", "failed", "completed"]), done.stderr
    threads = {path.name: int(path.read_text()) for path in tmp_path.glob("threads_*")}
    assert threads == {f"threads_{momentum}": max(1, cpu_count() // 2) for momentum in (0.5, 0.6, 0.9)}
    assert "validation" not in done.stdout, "jobs that run at the same time do not share the terminal"
    assert "validation" in (tmp_path / "sweep" / "2" / "console.log").read_text()
    (tmp_path / "broken").unlink()
    again = sweep("sweep.resume=sweep", "hydra/launcher=basic", given=list(OWN[:2]))
    assert statuses(again) == ["completed before", "completed", "completed before"], again.stderr


@linux
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_jobs_of_joblib_end_with_the_command(steady: list[str], tmp_path: Path, number: signal.Signals) -> None:
    words = ("-m", "hydra/launcher=joblib", "seed=1,2", "hydra.sweep.dir=sweep", "rounds=100000", "checkpoint_every=9")
    command = [sys.executable, "-m", "fednano.run", *steady, *words]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as ran:
        try:
            claims = [tmp_path / "sweep" / job / CLAIM for job in "01"]
            until(lambda: all((claim.parent / "events.jsonl").exists() for claim in claims))
            jobs = [os.pidfd_open(int(json.loads(claim.read_text())["pid"])) for claim in claims]
            assert wait(jobs, 0) == []
        finally:
            ran.send_signal(number)
    for job in jobs:
        assert wait([job], 60.0) == [job]
        os.close(job)
    if number == signal.SIGINT:
        assert [state.status for state in SweepRecord(tmp_path / "sweep").begun()] == ["interrupted"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("end", ["preempted", "killed"])
def test_a_cluster_job_that_is_preempted_goes_on_and_one_that_is_killed_fails(
    sweep: Sweep, tmp_path: Path, end: str
) -> None:
    (tmp_path / end).touch()
    words = ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=30", "hydra.sweep.dir=sweep")
    done = sweep("-m", MOMENTA.removesuffix(",0.9"), *words)
    assert not (tmp_path / end).exists()
    logs = "\n".join(path.read_text() for path in tmp_path.glob("sweep/.submitit/*/*_log.*"))
    if end == "killed":
        assert (done.returncode, statuses(done)) == (1, ["completed", "failed"]), done.stderr + logs
        done = sweep("sweep.resume=sweep", "hydra/launcher=basic", given=list(OWN[:2]))
        assert statuses(done)[0] == "completed before"
    assert (done.returncode, statuses(done)[1]) == (0, "completed"), done.stderr + logs
    assert ("Requeued job" in logs) == ("interrupted" in logs) == (end == "preempted"), "it ended in order first"
    plain = sweep("strategy.outer.momentum=0.6", "hydra.run.dir=plain")
    assert plain.returncode == 0, plain.stderr
    key = "weights_sha256"
    assert summary(tmp_path / "sweep/1")[key] == summary(tmp_path / "plain")[key]


@pytest.mark.slow
def test_slurm_gets_what_was_asked_for_and_a_preempted_job_goes_on(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = install(tmp_path / "cluster")
    monkeypatch.setenv("PATH", str(cluster), prepend=os.pathsep)
    (tmp_path / "preempted").touch()
    words = ("hydra/launcher=slurm", "hydra.launcher.timeout_min=240", "hydra.launcher.partition=gpu")
    done = sweep("-m", MOMENTA.removesuffix(",0.9"), *words, "hydra.sweep.dir=sweep")
    output = (cluster / "output").read_text()
    assert (done.returncode, statuses(done)) == (0, ["completed", "completed"]), done.stderr + output
    asked = {line.removeprefix("#SBATCH --") for line in (cluster / "submitted.sh").read_text().splitlines()}
    assert {"array=0-1%2", "time=240", "partition=gpu", "gpus-per-node=1", "requeue", "signal=USR2@180"} <= asked
    assert sorted((cluster / "started").read_text().split("\n")[:3]) == ["requeue 7_0", "requeue 7_1", "requeue 7_1"]
    assert not (tmp_path / "preempted").exists()


OPTUNA = (
    "-m", "hydra/sweeper=optuna", "strategy.outer.momentum=choice(0.6,0.5)", "optim.matrix_lr=interval(0.001,0.1)",
    "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=1", "hydra.sweeper.direction=[minimize,minimize]",
    "sweep.metrics=[val_bpb,co2_g]", "hydra.sweep.dir=sweep",
)  # fmt: skip


@pytest.mark.slow
def test_optuna_weighs_bpb_against_carbon_and_repeats_itself_when_it_is_continued(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    done = sweep(*OPTUNA)
    failing = [n for n, row in table(done).items() if "momentum=0.6" in " ".join(row)]
    assert failing, "at least one of the trials"
    assert [status == "failed" for status in statuses(done)] == [n in failing for n in range(4)], done.stderr
    assert done.returncode == 1
    found = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())["solutions"]
    pairs = {tuple(summary(path)[key] for key in ("val_bpb", "co2_g")) for path in tmp_path.glob("sweep/[0-9]")
             if (path / "summary.json").exists() and summary(path)["status"] == "completed"}  # fmt: skip
    assert {tuple(solution["values"]) for solution in found} <= pairs

    shutil.rmtree(tmp_path / "sweep" / "3")
    (tmp_path / "sweep" / ".sweep" / "3.json").unlink()
    again = sweep(*OPTUNA, "sweep.resume=sweep")  # still broken, so that each trial has the outcome it had
    assert {n: row[0] for n, row in table(again).items()} == {n: row[0] for n, row in table(done).items()}


OPTUNAS = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1")


def test_what_no_trial_can_have_is_refused_before_anything_is_written(sweep: Sweep, tmp_path: Path) -> None:
    refused = {
        "strategy.outer.momentun=interval(0.5,0.9)": "strategy.outer.momentun=0.5 sets a key that does not exist; did ",
        "optim.matrix_lr=interval(-2.0,-1.0)": "optim.matrix_lr must be ",
    }
    for word, line in refused.items():
        done = sweep(*OPTUNAS, word, "hydra.sweep.dir=sweep")
        assert done.returncode == 2
        assert done.stderr.startswith(f"fednano: {line}")
        assert len(done.stderr.splitlines()) == 1
        assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
def test_a_value_that_is_bad_at_one_end_is_a_trial_that_is_refused(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(
        *OPTUNAS, "strategy.outer.momentum=choice(1.5,0.9)", "hydra.sweep.dir=sweep", "hydra.sweeper.n_trials=6"
    )
    assert {"refused", "completed"} == set(statuses(done)), done.stderr


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_what_hydra_cannot_compose_of_late_values_is_told_in_one_line(sweep: Sweep, launcher: str) -> None:
    done = sweep(
        *OPTUNAS, "hydra.sweeper.custom_search_space=support.swept.misspelt", f"hydra/launcher={launcher}",
        "hydra.sweep.dir=sweep",
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("fednano: "))
    assert re.search(
        r"outer.momentun=0\.\d+ sets a key that does not exist; did you mean strategy.outer.momentum", line
    )
    assert "Traceback" not in done.stderr


def test_a_single_run_that_failed_says_how_to_continue_it(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    (tmp_path / "mine").mkdir()
    ended = sweep("--config-dir", "mine", "strategy.outer.momentum=0.6", "hydra.run.dir=run")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "RuntimeError: no such luck"
    assert "support/swept.py" in ended.stderr
    assert "HYDRA_FULL_ERROR" not in ended.stderr
    words = f"--config-dir {tmp_path / 'mine'} resume={tmp_path / 'run'}"
    assert f"continue the run with {words}\n" in ended.stdout

    still = sweep(*OWN[:2], "--config-dir", "mine", "resume=run", given=[])
    assert f"continue the run with --config-dir mine resume={tmp_path / 'run'}\n" in still.stdout
    (tmp_path / "broken").unlink()
    done = sweep(*OWN[:2], *words.split(), given=[])
    assert done.returncode == 0, done.stderr
    assert "continue the run" not in done.stdout
    assert done.stdout.splitlines()[-1].split() == ["report", "run/report.html"]
    before = sweep("strategy.outer.momentum=1.5", "hydra.run.dir=refused")
    assert "continue the run" not in before.stdout
