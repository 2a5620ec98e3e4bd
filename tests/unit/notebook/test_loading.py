"""The tables of run folders: their rows, labels and types, also of runs that have not ended."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import fednano

ROUND = {"round": 0, "t": 1.5, "merges": 1, "tokens": 512, "train_loss": 6.5}
EVALUATION = {"round": 1, "t": 1.5, "merges": 1, "tokens": 512, "val_bpb": 4.25, "val_loss": 6.25}
EVENTS = [{"event": "ClientUp", "t": 0.0, "client": "a"}, {"event": "ClientDown", "t": 2.0, "client": "a"}]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def record(folder: Path, strategy: str, seed: int, bpb: float | None) -> Path:
    """The files of a run; without a loss, of one that has no summary yet and writes a line."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"strategy": {"name": strategy}, "seed": seed}))
    (folder / "metrics.jsonl").write_text(lines([ROUND, EVALUATION]) + ("" if bpb else '{"round": 1'))
    (folder / "events.jsonl").write_text(lines(EVENTS))
    if bpb:
        (folder / "summary.json").write_text(json.dumps({"status": "completed", "val_bpb": bpb, "bytes": {"up": 8}}))
    return folder


def test_a_run_is_read_into_tables(tmp_path: Path) -> None:
    run = fednano.load_run(record(tmp_path / "run", "diloco", 3, 4.0))
    assert (run.status, run.config["strategy.name"], run.summary["bytes.up"]) == ("completed", "diloco", 8)
    assert list(run.metrics["type"]) == ["round", "evaluation"]
    assert run.rounds.to_dict("records") == [{"type": "round", **ROUND}]
    assert run.evaluations.to_dict("records") == [{"type": "evaluation", **EVALUATION}]
    assert list(run.events["event"]) == ["ClientUp", "ClientDown"]


def test_a_type_that_the_file_has_is_kept(tmp_path: Path) -> None:
    folder = record(tmp_path / "run", "diloco", 3, 4.0)
    (folder / "metrics.jsonl").write_text(lines([{"type": "round", "val_bpb": 1.0}]))
    assert list(fednano.load_run(folder).metrics["type"]) == ["round"]


def test_a_run_that_goes_on_has_tables_up_to_its_last_whole_line(tmp_path: Path) -> None:
    run = fednano.load_run(record(tmp_path / "run", "diloco", 3, None))
    assert (run.status, len(run.summary), len(run.metrics)) == ("unfinished", 0, 2)


def test_a_run_without_metrics_has_empty_tables(tmp_path: Path) -> None:
    folder = record(tmp_path / "run", "diloco", 3, 4.0)
    (folder / "metrics.jsonl").unlink()
    run = fednano.load_run(folder)
    assert (len(run.metrics), len(run.rounds), list(run.evaluations.columns)) == (0, 0, ["type"])


def test_tables_of_several_runs_begin_with_what_tells_them_apart(tmp_path: Path) -> None:
    for strategy in ("diloco", "fedavg"):
        for seed in (1, 2):
            record(tmp_path / "sweep" / f"{strategy}{seed}", strategy, seed, 4.0 + seed)
    runs = fednano.load_runs(tmp_path / "*")
    assert len(runs) == 4
    assert list(runs.summary.columns[:3]) == ["run", "strategy", "seed"]
    assert runs.summary.groupby("strategy")["val_bpb"].mean().to_dict() == {"diloco": 5.5, "fedavg": 5.5}
    assert list(runs.evaluations["strategy"]) == ["diloco", "diloco", "fedavg", "fedavg"]
    assert list(runs.rounds["seed"]) == [1, 2, 1, 2]
    assert len(runs.events) == 8
    assert len(runs[1:3].metrics) == 4


def test_what_a_plain_interpreter_shows_is_short(tmp_path: Path) -> None:
    run = fednano.load_run(record(tmp_path / "a", "diloco", 3, 4.0))
    assert repr(run) == f"<LoadedRun {tmp_path}/a: completed, val_bpb=4>"
    record(tmp_path / "b", "fedavg", 3, None)
    first, head, *rows = repr(fednano.load_runs(tmp_path)).splitlines()
    assert first == "<LoadedRuns: 2>"
    assert head.split() == ["run", "strategy", "seed", "status", "val_bpb"]
    assert [row.split()[1:] for row in rows] == [
        ["diloco", "3", "completed", "4.0"],
        ["fedavg", "3", "unfinished", "NaN"],
    ]


def test_each_run_is_loaded_once(tmp_path: Path) -> None:
    folder = record(tmp_path / "sweep" / "0", "diloco", 1, 4.0)
    assert [run.folder for run in fednano.load_runs(tmp_path / "sweep", folder)] == [folder]


@pytest.mark.parametrize("load", [fednano.load_run, fednano.load_runs])
def test_a_folder_without_a_run_is_refused(tmp_path: Path, load: Any) -> None:
    with pytest.raises(ValueError, match=str(tmp_path / "none")):
        load(tmp_path / "none")


def test_a_folder_of_several_runs_is_no_run(tmp_path: Path) -> None:
    record(tmp_path / "sweep" / "0", "diloco", 1, 4.0)
    with pytest.raises(ValueError, match="use load_runs"):
        fednano.load_run(tmp_path / "sweep")


def test_overrides_that_are_no_list_are_refused() -> None:
    for start in (fednano.fit, fednano.sweep):
        with pytest.raises(
            ValueError, match=rf'^fednano\.{start.__name__} takes a list of overrides, got "rounds=3"; '
        ):
            start("rounds=3")
