"""Resuming: a run stopped anywhere ends as if it had never been stopped."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.runs import StopsAfter, assert_same, kill_at, summary_of

from fednano.core.clock import VirtualClock
from fednano.core.event_log import EventLog, LogMark, read_log
from fednano.core.events import CheckpointSaved, Event, RoundMerged, RoundSkipped, RunStarted
from fednano.core.files import write_folder
from fednano.data.ledger import Ledger
from fednano.experiment.resume import reopen
from fednano.strategy.base import ServerState
from fednano.training.checkpoint import Checkpoints
from fednano.training.recorder import Recorder, RunProgress, Write

Run = Callable[..., dict[str, Any]]
Command = Callable[..., subprocess.CompletedProcess[str]]

CENTRAL = ("runtime=centralized", "rounds=4", "eval_tokens=64")
CHURN = ("clients=3", "volatility.crash_share=0.5", "rounds=8", "checkpoint_every=3", "eval_every=2")


def stopped(run: Run, checks: int, *overrides: str) -> dict[str, Any]:
    """The summary of a run that was stopped after a number of checks and then resumed."""
    folder = f"after_{checks}"
    assert run(*overrides, store=StopsAfter(checks), folder=folder)["status"] == "interrupted"
    return run(*overrides, folder=folder, resume=True)


@pytest.mark.parametrize(
    ("optim", "stops"),
    [
        ("muon_adamw", [0, 6]),
        pytest.param("muon_adamw", [2, 5, 10, 12], marks=pytest.mark.slow),
        ("nanochat", [5]),
        ("adamw", [8]),
    ],
)
def test_a_centralized_run_stopped_anywhere_ends_the_same(run: Run, optim: str, stops: list[int]) -> None:
    """Two checks are made by each evaluation, at the start and after rounds 2 and 3, one by each of 4 + 4 + 1 steps."""
    options = (*CENTRAL, f"optim={optim}", "checkpoint_every=2", "eval_every=2")
    whole = run(*options)
    assert (whole["inner_steps"], whole["rounds"]) == (9, 3)
    for checks in stops:
        assert_same(stopped(run, checks, *options), whole)


def test_a_run_stopped_twice_ends_the_same(run: Run) -> None:
    options = (*CENTRAL, "checkpoint_every=3")
    whole = run(*options)
    run(*options, store=StopsAfter(4), folder="twice")
    again = run(*options, store=StopsAfter(6), folder="twice", resume=True)
    assert (again["status"], again["rounds"]) == ("interrupted", 1)
    assert_same(run(*options, folder="twice", resume=True), whole)


def test_forgetting_the_optimizers_would_show(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(*CENTRAL)
    monkeypatch.setattr("fednano.training.local.LocalTrainer.restore", lambda *_: None)
    assert stopped(run, 7, *CENTRAL)["weights_sha256"] != whole["weights_sha256"]


def test_wall_time_adds_up(run: Run) -> None:
    stopped_run = run(*CENTRAL, store=StopsAfter(7))
    snapshot = Checkpoints.newest(stopped_run["folder"] / "checkpoints")
    assert snapshot is not None
    resumed = run(*CENTRAL, resume=True)
    assert resumed["wall_s"] > snapshot.wall_s > 0
    assert resumed["train_s"] > snapshot.train_s > 0


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["centralized", "virtual"])
def test_a_killed_run_goes_on_from_its_newest_checkpoint(
    command: Command, tiny: list[str], tmp_path: Path, runtime: str
) -> None:
    options = [*tiny, f"runtime={runtime}", "rounds=12", "checkpoint_every=2", "eval_tokens=64"]
    assert command("run", *options, "hydra.run.dir=whole", cwd=tmp_path).returncode == 0
    kill_at(
        tmp_path,
        [*options, "hydra.run.dir=killed"],
        lambda e: isinstance(e, RoundMerged | RoundSkipped) and e.round == 4,
    )
    assert not (tmp_path / "killed" / "summary.json").exists()
    left = tmp_path / "killed" / "checkpoints" / ".round_000006.1.tmp"
    left.mkdir()
    ended = command("run", "resume=killed", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert_same(summary_of(tmp_path / "killed"), summary_of(tmp_path / "whole"))
    assert not left.exists()

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").rglob("*")}
    again = command("run", "resume=killed", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, "fednano: resume=killed is completed; there is nothing to do\n")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").rglob("*")} == before
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "killed"}


# Steps take a while, so that the run is caught where it should be.


def test_a_sweep_is_continued_by_another_key(tmp_path: Path) -> None:
    (tmp_path / ".sweep").mkdir()
    with pytest.raises(ValueError, match=rf"one run, got a sweep's, {tmp_path}; use sweep\.resume={tmp_path}$"):
        reopen([f"resume={tmp_path}"])


def test_what_cannot_be_resumed_is_refused(
    command: Command, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    options = [*tiny, "runtime=centralized", "rounds=300", "checkpoint_every=1"]
    kill_at(tmp_path, [*options, "hydra.run.dir=killed"], lambda e: isinstance(e, CheckpointSaved) and e.round == 3)
    folder = tmp_path / "killed"
    checkpoints = sorted((folder / "checkpoints").glob("round_*"))
    assert len(checkpoints) == 2

    def refused(*overrides: str) -> str:
        with pytest.raises(ValueError) as caught:
            reopen(overrides)
        return " ".join(str(caught.value).split())

    assert refused("resume=").startswith("resume must name the folder of a run, got nothing")
    assert refused("resume=${nokey}").startswith("resume must refer to values that exist, got ${nokey} (")
    assert "resume=" in refused(f"resume={tmp_path / 'none'}") and "config.yaml" in refused(f"resume={tmp_path}/empty")
    for override in ("rounds=400", "hardware.threads=2", "checkpoint_every=2", "name=x", "strategy.stream.alpha=0"):
        assert f"{override} would change the run" in refused(f"resume={folder}", override)
    assert reopen([f"resume={folder}", "checkpoint_keep=5", "logger=wandb"]).cfg.logger.wandb.project
    for name in ("weights.safetensors", "state.json", "inner/central.safetensors"):
        path = checkpoints[-1] / name
        kept = path.read_bytes()
        path.write_bytes(kept[: len(kept) // 2])
        snapshot = reopen([f"resume={folder}"]).snapshot
        assert snapshot and snapshot.saved.name == checkpoints[0].name
        assert f"skipped the checkpoint {checkpoints[-1]}: {name} has" in capsys.readouterr().err
        path.write_bytes(kept)
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("depth: 2", "depth: 3"))
    ended = command("run", f"resume={folder}", cwd=tmp_path)
    assert ended.returncode == 2
    assert "must have the config.yaml that the run began with, got another; restore it" in ended.stderr
    moved = config.replace("\n  root: ", "\n  root: /another/place")
    assert moved != config
    (folder / "config.yaml").write_text(moved)
    assert str(reopen([f"resume={folder}"]).cfg.data.root).startswith("/another/place")
    (folder / "config.yaml").write_bytes(config.encode().replace(b"name: ", b"name:\xa0"))
    assert f"{folder / 'config.yaml'} cannot be read (" in refused(f"resume={folder}")
    (folder / "config.yaml").write_text(config)
    before = (folder / "events.jsonl").read_text()
    metrics = (folder / "metrics.jsonl").rename(folder / "away")
    (folder / "metrics.jsonl").mkdir()
    assert "metrics.jsonl must be a file, got a folder" in refused(f"resume={folder}")
    assert (folder / "events.jsonl").read_text() == before
    (folder / "metrics.jsonl").rmdir()
    metrics.rename(folder / "metrics.jsonl")
    (folder / "events.jsonl").write_text(before[:2000])
    ended = command("run", f"resume={folder}", cwd=tmp_path)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    number = before[:2000].count("\n") + 1
    assert ended.stderr == f"fednano: {folder / 'events.jsonl'}, line {number} is incomplete; restore the file\n"
    assert (folder / "events.jsonl").read_text() == before[:2000]
    shutil.rmtree(folder / "checkpoints")
    assert "has no checkpoint, since the run ended before its first" in refused(f"resume={folder}")


def test_a_event_log_has_one_writer_and_goes_on_where_it_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first = RunStarted(
        t=0.0, runtime="x", strategy="x", volatility="x", clients=(), parameters=1, rounds=1, local_steps=1,
        tokens_per_step=1, tokens_planned=1, seed=0, train_rows=1,
    )  # fmt: skip
    saved = CheckpointSaved(t=1.0, round=0, version=0, name="x")
    event_log = EventLog(path)
    event_log.append(first)
    mark = event_log.mark()
    event_log.append(saved)
    with pytest.raises(ValueError, match="is in use by another process"):
        EventLog(path)
    event_log.close()
    with pytest.raises(ValueError, match="does not begin with the 1 events"):
        EventLog(path, LogMark(1, "0" * 64))
    assert len(list(read_log(path))) == 2
    with path.open("a") as file:
        file.write('{"event": "Checkp')
    again = EventLog(path, mark)
    again.append(replace(saved, t=2.0))
    again.close()
    assert list(read_log(path)) == [first, replace(saved, t=2.0)]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    write_folder(target, lambda folder: (folder / "old").touch() or None)

    def crash(folder: Path) -> None:
        (folder / "new").touch()
        assert (target / "old").exists()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_folder(target, crash)
    assert [path.name for path in target.iterdir()] == ["old"]
    write_folder(target, lambda folder: (folder / "new").touch() or None)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_while_a_reply_is_on_its_way_nothing_is_saved() -> None:
    written: list[tuple[int, bool]] = []
    emitted: list[Event] = []

    def mark(
        state: ServerState, ledger: Ledger, progress: RunProgress, up: object, leaving: object, due: bool
    ) -> Write:
        rounds = progress.rounds

        def write() -> CheckpointSaved:
            written.append((rounds, due))
            return CheckpointSaved(t=0.0, round=rounds, version=0, name="x")

        return write

    recorder = Recorder(
        eval_every=100,
        checkpoint_every=2,
        evaluate=lambda _: (1.0, 1.0),
        mark=mark,
        emit=emitted.append,
        clock=VirtualClock(),
        progress=RunProgress(),
    )
    state, ledger = ServerState(), Ledger([1])
    recorder.begin(state, ledger)
    for done, quiet in enumerate((True, False, True, True, True, False), 1):
        recorder.progress.rounds = done
        recorder.after_round(state, ledger, last=False, quiet=quiet)
    assert written == [(3, True), (4, True)], "what is due after round 2 waits for round 3"
    recorder.checkpoint()
    recorder.checkpoint()
    assert written[2:] == [(5, False)], "round 6 ended with a reply on its way"
    assert [event.round for event in emitted if isinstance(event, CheckpointSaved)] == [3, 4, 5]


@pytest.mark.parametrize(
    ("optim", "stops"),
    [
        ("muon_adamw", [3, 20]),
        pytest.param("muon_adamw", [0, 47], marks=pytest.mark.slow),
        pytest.param("nanochat", [33], marks=pytest.mark.slow),
    ],
)
def test_a_federated_run_stopped_anywhere_ends_the_same(run: Run, optim: str, stops: list[int]) -> None:
    options = (*CHURN, f"optim={optim}", "eval_tokens=64")
    whole = run(*options)
    events = list(read_log(whole["folder"] / "events.jsonl"))
    assert {"ClientDown", "ClientUp", "LeaseReleased"} <= {type(event).__name__ for event in events[1:]}
    for checks in stops:
        assert_same(stopped(run, checks, *options), whole)
