"""A resumed run continues its W&B run, on a server and on disk."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
from support.runs import StopsAfter
from support.wandb_log import history_of, runs_of
from support.wandb_server import Served, wandb_server

Run = Callable[..., dict[str, Any]]
OPTIONS = ("runtime.compute=analytic", "rounds=6", "checkpoint_every=2", "eval_every=2", "logger=wandb")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    for key in ("WANDB_MODE", "WANDB_RUN_ID", "WANDB_SWEEP_ID"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # whatever happens, nobody outside is asked
    wandb.teardown()  # its process has the settings of the test before


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def plain(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in ("tokens", "round", "merges", "train_loss", "energy_kwh", "bytes_up"))


def stopped_and_resumed(run: Run, *overrides: str) -> Path:
    first = run(*OPTIONS, *overrides, store=StopsAfter(3))
    assert first["status"] == "interrupted" and 0 < first["rounds"] < 6
    assert run(*OPTIONS, *overrides, resume=True)["status"] == "completed"
    folder: Path = first["folder"]
    return folder


def test_offline_the_second_folder_has_the_rest_of_the_same_run(run: Run) -> None:
    folder = stopped_and_resumed(run, "logger.wandb.mode=offline")
    first, second = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    assert [runs_of(log) for log in (first, second)] == 2 * [
        [json.loads((folder / "wandb/fednano.json").read_text())["id"]]
    ]
    before, after = history_of(first), history_of(second)
    assert before and after
    assert [row["_step"] for row in (*before, *after)] == list(range(len(before) + len(after)))
    assert list(map(plain, (*before, *after)))[:-1] == list(map(plain, rows_of(folder)))  # the last is the summary's


def test_rows_that_a_kill_took_along_are_given_again(run: Run) -> None:
    """W&B writes blocks of its log at a time, so that the log of a process that is killed ends within a record."""
    first = run(*OPTIONS, "logger.wandb.mode=offline", store=StopsAfter(3))
    wandb.teardown()
    [log] = first["folder"].glob("wandb/offline-run-*/*.wandb")
    given = len(history_of(log))
    while len(history_of(log)) == given:
        log.write_bytes(log.read_bytes()[:-50])
    assert run(*OPTIONS, "logger.wandb.mode=offline", resume=True)["status"] == "completed"
    logs = sorted(first["folder"].glob("wandb/offline-run-*/*.wandb"))
    steps = [row["_step"] for log in logs for row in history_of(log)]
    assert steps == list(range(len(rows_of(first["folder"])) + 1))


@pytest.mark.parametrize(
    "lost",
    [pytest.param(0, marks=pytest.mark.slow), 50, pytest.param(1 << 20, marks=pytest.mark.slow)],
    ids=["nothing", "a part of a record", "all"],
)
def test_wandb_sync_uploads_a_run_that_was_resumed(run: Run, lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(*OPTIONS, "logger.wandb.mode=offline", store=StopsAfter(3))
    wandb.teardown()
    [log] = first["folder"].glob("wandb/offline-run-*/*.wandb")
    log.write_bytes(log.read_bytes()[: max(7, log.stat().st_size - lost)])
    run(*OPTIONS, "logger.wandb.mode=offline", resume=True)
    wandb.teardown()
    folders = list(map(str, first["folder"].glob("wandb/offline-run-*")))
    served = Served()
    with wandb_server(served) as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.delenv("WANDB_SILENT")
        subprocess.run([sys.executable, "-m", "wandb", "sync", *folders], check=True, timeout=60)
    [(name, history)] = served.history.items()
    rows = [plain(history[k]) for k in range(len(history))]
    assert rows[:-1] == list(map(plain, rows_of(first["folder"])))
    assert f"{name}-report" in served.artifacts


def test_logs_that_were_uploaded_and_removed_are_not_given_again(run: Run) -> None:
    first = run(*OPTIONS, "logger.wandb.mode=offline", store=StopsAfter(3))
    [log] = first["folder"].glob("wandb/offline-run-*/*.wandb")
    given = len(history_of(log))
    shutil.rmtree(log.parent)
    run(*OPTIONS, "logger.wandb.mode=offline", resume=True)
    [log] = first["folder"].glob("wandb/offline-run-*/*.wandb")
    assert next(row["_step"] for row in history_of(log)) == given > 0


def test_online_the_server_has_one_run_and_each_row_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served()
    with wandb_server(served) as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        folder = stopped_and_resumed(run, "logger.wandb.mode=online")
    [(name, history)] = served.history.items()
    assert f"{name}-report" in served.artifacts
    assert name == json.loads((folder / "wandb/fednano.json").read_text())["id"]
    assert sorted(history) == list(range(len(history)))
    rows = [history[k] for k in sorted(history)]
    assert [row["_step"] for row in rows] == list(range(len(rows)))
    assert list(map(plain, rows))[:-1] == list(map(plain, rows_of(folder)))


def test_another_project_is_another_run(run: Run) -> None:
    first = run(*OPTIONS, "logger.wandb.mode=offline", store=StopsAfter(3))
    run(*OPTIONS, "logger.wandb.mode=offline", "logger.wandb.project=other", resume=True)
    logs = {runs_of(log)[0]: log for log in first["folder"].glob("wandb/offline-run-*/*.wandb")}
    assert len(logs) == 2
    other = json.loads((first["folder"] / "wandb" / "fednano.json").read_text())["id"]
    assert len(history_of(logs[other])) == len(rows_of(first["folder"])) + 1  # also if both began in one second


def test_an_agent_decides_which_run_it_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(*OPTIONS, "logger.wandb.mode=offline", store=StopsAfter(3))
    monkeypatch.setenv("WANDB_RUN_ID", "theirs")
    wandb.teardown()
    run(*OPTIONS, "logger.wandb.mode=offline", resume=True)
    [log] = first["folder"].glob("wandb/offline-run-*-theirs/*.wandb")
    assert runs_of(log) == ["theirs"]
    assert len(history_of(log)) == len(rows_of(first["folder"])) + 1
