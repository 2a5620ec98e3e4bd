"""The Trackio logger: what it logs is read from Trackio's own database."""

import json
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.event_logs import volatile_run

from fednano.core.events import Evaluated, RoundMerged
from fednano.report.metrics import MetricRows
from fednano.report.sinks import Fanout
from fednano.report.tracking.loggers import Loggers
from fednano.report.tracking.trackio_sink import Trackio

Curves = dict[str, list[tuple[int, float]]]
SETTINGS = Trackio(project="tests", name=None, group=None)


@pytest.fixture(scope="session")  # once in a process, as Trackio reads it
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of Trackio's database, which it reads from the environment when it is imported."""
    folder = tmp_path_factory.mktemp("trackio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        from trackio.utils import TRACKIO_DIR

        assert folder == TRACKIO_DIR
        yield folder


def curves(database: Path, project: str = "tests") -> dict[str, Curves]:
    """Scalars by run and name: (tokens, value)."""
    found: dict[str, Curves] = {}
    with sqlite3.connect(database / f"{project}.db") as opened:
        for run, step, metrics in opened.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id"):
            for name, value in json.loads(metrics).items():
                found.setdefault(run, {}).setdefault(name, []).append((step, value))
    return found


def logged(folder: Path, rounds: int = 6) -> list[Any]:
    events = volatile_run(rounds)
    sinks = Loggers({"trackio": SETTINGS}).open(folder, {"seed": 1}, dict)
    fan = Fanout([MetricRows(lambda: {"energy_kwh": 0.5, "co2_g": None}, sinks), *sinks])
    for event in events:
        fan.event(event)
    fan.close({})
    return events


def test_losses_and_costs_stand_over_tokens(tmp_path: Path, database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = logged(tmp_path)
    [found] = [of for run, of in curves(database).items() if run.endswith(f"/{tmp_path.name}")]
    merged = [event for event in events if isinstance(event, RoundMerged)]
    evaluated = [event for event in events if isinstance(event, Evaluated)]
    assert found["round/train_loss"] == [(e.tokens_total, pytest.approx(e.train_loss)) for e in merged]
    assert found["evaluation/val_bpb"] == [(e.tokens_total, pytest.approx(e.val_bpb)) for e in evaluated]
    assert found["cost/energy_kwh"] == [(e.tokens_total, 0.5) for e in merged]
    assert "cost/co2_g" not in found
    assert capsys.readouterr().out == ""  # its greetings would break the live display


def test_a_resumed_run_has_each_round_once_and_others_are_left_alone(tmp_path: Path, database: Path) -> None:
    mine, other = tmp_path / "a" / "run", tmp_path / "b" / "run"
    for folder in (mine, other):
        folder.mkdir(parents=True)
    for folder, rounds in ((mine, 3), (other, 4), (mine, 6)):
        logged(folder, rounds)
    found = curves(database)
    assert len(found["a/run"]["round/norm"]) == 6
    assert len(found["b/run"]["round/norm"]) == 4


def test_a_damaged_identity_is_a_new_run(tmp_path: Path, database: Path) -> None:
    (tmp_path / "trackio.json").write_text("[")
    logged(tmp_path)
    assert json.loads((tmp_path / "trackio.json").read_text())["project"] == "tests"


def test_a_run_logs_beside_others(run: Callable[..., dict[str, Any]], database: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = run("logger=[local,trackio]", "logger.trackio.project=whole", "runtime.compute=analytic")
    [(_, found)] = curves(database, "whole").items()
    assert summary["status"] == "completed"
    assert len(found["cost/bytes_up"]) == summary["rounds"]


def test_a_project_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"logger\.trackio\.project must not be empty"):
        Trackio(project="", name=None, group=None)
