"""Runs that are followed through their folders: logs that grow, are torn, cut back, damaged or of earlier versions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.event_logs import summary_of, volatile_run
from support.pages import write_run

from fednano.core.claim import CLAIM, claim
from fednano.core.event_log import to_line
from fednano.core.events import Event, RoundMerged, RunStarted
from fednano.core.lines import Lines
from fednano.report import following
from fednano.report.following import FollowedRun, is_run, run_folders
from fednano.report.history import read_history

READ_S = 60.0  # enough for everything there is


def written(folder: Path, events: list[Event], torn: bytes = b"") -> Path:
    """A run folder whose event log holds these events and then the beginning of another line."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "events.jsonl").write_bytes(b"".join(to_line(event) + b"\n" for event in events) + torn)
    return folder


def followed(folder: Path) -> FollowedRun:
    run = FollowedRun(folder)
    run.follow(READ_S)
    return run


def test_a_log_that_grows_is_read_as_it_grows(tmp_path: Path) -> None:
    events = volatile_run(rounds=6)
    run = FollowedRun(written(tmp_path, []))
    versions = set()
    for k in range(0, len(events) + 7, 7):
        line = to_line(events[k]) if k < len(events) else b""
        written(tmp_path, events[:k], torn=line[: len(line) // 2])  # the writer was seen in the middle of a line
        run.follow(READ_S)
        versions.add(run.version)
        run.history.so_far()  # leaves the history as it is
        assert run.history.figures.rounds == sum(
            e.__class__.__name__ in ("RoundMerged", "RoundSkipped") for e in events[:k]
        )
    assert run.fault == ""
    assert len(versions) > len(events) // 7
    assert run.history.so_far() == _same_digest(read_history(written(tmp_path, events) / "events.jsonl"))


def _same_digest(history):  # type: ignore[no-untyped-def]
    history.tape_sha256 = ""
    return history


def test_nothing_new_is_no_new_version(tmp_path: Path) -> None:
    run = followed(written(tmp_path, volatile_run(rounds=2)))
    before = run.version
    run.follow(READ_S)
    assert run.version == before
    (tmp_path / "summary.json").write_text('{"status": "failed"}')
    run.follow(READ_S)
    assert run.version > before


@pytest.mark.parametrize("after", [0, 30, 90])
def test_a_log_that_a_resumed_run_cut_back_is_read_anew(tmp_path: Path, after: int) -> None:
    events = volatile_run(rounds=8)
    run = followed(written(tmp_path, events[:60]))
    other = volatile_run(rounds=8, seed=1)
    written(tmp_path, [*events[:20], *other[20 : 20 + after]])
    run.follow(READ_S)
    run.follow(READ_S)
    merged = sum(isinstance(e, RoundMerged) for e in [*events[:20], *other[20 : 20 + after]])
    assert run.history.figures.merged == merged
    assert run.fault == ""


def test_a_damaged_line_is_named_and_what_was_read_stays(tmp_path: Path) -> None:
    events = volatile_run(rounds=4)
    run = followed(written(tmp_path, events[:30], b"{not json}\n" + to_line(events[30]) + b"\n"))
    assert "line 31 is not JSON" in run.fault
    assert run.history.figures.run == events[0]
    assert run.behind == 0
    at = run.version
    run.follow(READ_S)
    assert run.version == at


def test_a_log_of_a_newer_version_is_named_and_one_of_an_earlier_is_read(tmp_path: Path) -> None:
    started = json.loads(to_line(volatile_run(rounds=1)[0]))
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "events.jsonl").write_text(json.dumps({**started, "format": 99}) + "\n")
    assert "format 99" in followed(newer).fault
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    (earlier / "events.jsonl").write_text(json.dumps({k: v for k, v in started.items() if k != "unit"}) + "\n")
    run = followed(earlier)
    assert run.fault == ""
    assert isinstance(run.history.figures.run, RunStarted)


def test_a_large_log_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "CHUNK", 1000)
    events = volatile_run(rounds=10)
    run = FollowedRun(written(tmp_path, events))
    left = []
    while not left or left[-1]:
        run.follow(0.0)
        left.append(run.behind)
    assert left == sorted(left, reverse=True)
    assert len(left) > 10
    assert run.history.figures.end == events[-1]


def test_a_limit_ends_at_the_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a" * 50 + b"\nb\n\xff\r\nc")
    lines = Lines(path)
    assert lines.more(10) == [b"a" * 50 + b"\n"]
    assert lines.more(10) == [b"b\n", b"\xff\r\n"]
    assert lines.more(10) == []


def test_the_state_of_a_run_follows_from_its_folder(tmp_path: Path) -> None:
    events = volatile_run(rounds=3)
    run = FollowedRun(tmp_path)
    claimed = claim(tmp_path)

    def state() -> str:
        run.follow(READ_S)
        return run.status

    written(tmp_path, [])
    assert state() == "waiting"
    written(tmp_path, events[:20])
    assert state() == "running"
    (tmp_path / "summary.json").write_text('{"status": "interrupted"}')  # of the time before it was resumed
    assert state() == "running"
    written(tmp_path, events)
    assert state() == "completed"
    write_run(tmp_path, events, status="failed")  # after the last event, such as on a full disk
    claimed.release()
    assert state() == "failed"


def test_a_run_whose_process_was_killed_is_unfinished(tmp_path: Path) -> None:
    run = followed(written(tmp_path, volatile_run(rounds=3)[:20]))
    assert run.status == "running"  # nobody claims it, as in earlier versions, but it was written just now
    os.utime(tmp_path / "events.jsonl", (0, 0))
    run.follow(READ_S)
    assert run.status == "unfinished"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    os.utime(tmp_path / "events.jsonl")
    for pid, status in ((ended.pid, "unfinished"), (os.getpid(), "running")):
        (tmp_path / CLAIM).write_text(json.dumps({"host": os.uname().nodename, "pid": pid}))
        run.follow(READ_S)
        assert run.status == status


@pytest.mark.parametrize("text", ["", "[]", "{", '{"so_far": 3}', '{"status": null}'])
def test_files_of_another_kind_tell_nothing(tmp_path: Path, text: str) -> None:
    written(tmp_path, volatile_run(rounds=3))
    for name in ("summary.json", "energy.json", "config.yaml"):
        (tmp_path / name).write_text(text)
    run = followed(tmp_path)
    assert run.status == "completed"
    assert run.energy() == {}
    assert run.name


def test_a_folder_that_is_removed_is_no_error(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", volatile_run(rounds=2))
    run = followed(folder)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    run.follow(READ_S)
    assert run.summary() == {}


def test_runs_are_found_below_a_folder_but_not_inside_each_other(tmp_path: Path) -> None:
    runs = {tmp_path / name for name in ("quickstart/a", "quickstart/b", "sweep/now/0", "sweep/now/1")}
    for run in runs:
        written(run, [])
    written(tmp_path / "quickstart/a/wandb/inside", [])
    written(tmp_path / ".hidden/run", [])
    (tmp_path / "linked").symlink_to(tmp_path / "sweep")
    (tmp_path / "other").mkdir()
    assert set(run_folders(tmp_path)) == runs
    assert list(run_folders(tmp_path / "quickstart/a")) == [tmp_path / "quickstart/a"]
    assert list(run_folders(tmp_path / "other")) == []
    assert list(run_folders(tmp_path / "absent")) == []
    assert not is_run(tmp_path)


def test_a_summary_agrees_with_the_events(tmp_path: Path) -> None:
    events = volatile_run(rounds=4)
    run = followed(write_run(tmp_path, events))
    assert run.summary()["tokens"] == summary_of(events)["tokens"]
    assert run.wall_s == pytest.approx(summary_of(events)["wall_s"])
