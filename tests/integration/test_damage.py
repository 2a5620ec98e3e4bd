"""Damaged run folders: a resumed run goes on from what is sound and ends as if nothing had been damaged."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.damage import add_strays, flip, strays
from support.runs import StopsAfter, assert_same

from fednano import prepare
from fednano.config.errors import guarded
from fednano.core.event_log import DamagedLogError, LogMark, require_beginning
from fednano.training.checkpoint import Checkpoints

Run = Callable[..., dict[str, Any]]

# What is said of a damaged event log; without a number where every line is still an event.
LINE = (
    r"^[^();]+events\.jsonl(, line \d+ [^();]+| does not begin with the \d+ events before the checkpoint); "
    r"restore the file$"
)

FEDERATED = (
    "clients=2", "volatility.mean_up_s=1e6", "volatility.mean_down_s=0.001", "rounds=3", "strategy.local_steps=1",
    "checkpoint_every=1", "eval_every=9", "eval_tokens=64",
)  # fmt: skip


@pytest.fixture
def stopped(run: Run) -> Path:
    """The folder of a run with two checkpoints that was stopped in its last round."""
    summary = run(*FEDERATED, store=StopsAfter(7), folder="stopped")
    assert (summary["status"], summary["rounds"]) == ("interrupted", 2)
    folder: Path = summary["folder"]
    assert [path.name for path in sorted((folder / "checkpoints").iterdir())] == ["round_000001", "round_000002"]
    return folder


def damaged(stopped: Path) -> Iterator[tuple[str, Path]]:
    """The name of each file of the newest checkpoint, with a copy of the run in which one bit of that file flipped."""
    newest = stopped / "checkpoints" / "round_000002"
    for path in sorted(path for path in newest.rglob("*") if path.is_file()):
        copy = stopped.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(stopped, copy)
        flip(copy / path.relative_to(stopped))
        yield path.relative_to(newest).as_posix(), copy


def test_a_bit_that_flips_in_a_checkpoint_changes_nothing(
    run: Run, stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, seen = run(*FEDERATED, folder="whole"), set()
    for name, copy in damaged(stopped):
        assert_same(run(*FEDERATED, folder=copy.name, resume=True), whole)
        assert f"skipped the checkpoint {copy}/checkpoints/round_000002: {name} has changed" in capsys.readouterr().err
        seen.add(name)
    assert seen >= {"weights.safetensors", "outer.safetensors", "state.json", "manifest.json"}
    assert {"inner/client_0.safetensors", "inner/client_1.safetensors"} <= seen


def test_strays_do_no_harm(run: Run, stopped: Path) -> None:
    add_strays(stopped / "checkpoints")
    before = add_strays(stopped)
    assert_same(run(*FEDERATED, folder="stopped", resume=True), run(*FEDERATED, folder="whole"))
    assert strays(stopped) == before


def test_a_bit_that_flips_in_the_event_log_is_seen(stopped: Path) -> None:
    """Also one in a wall-clock field, which the digest of the run leaves out."""
    events, checkpoints = stopped / "events.jsonl", stopped / "checkpoints"
    older, newer = (Checkpoints.load(path).event_log for path in sorted(checkpoints.iterdir()))
    lines = events.read_bytes().splitlines(keepends=True)
    begins = len(b"".join(lines[: older.events]))
    ends = len(b"".join(lines[: newer.events]))
    log = events.read_bytes()
    wall = log.index(b'"wall_s":', begins) + len(b'"wall_s":')
    assert wall < ends

    def newest() -> int | None:
        found = Checkpoints.newest(checkpoints, events)
        return found and found.progress.rounds

    assert newest() == 2
    for at in (begins, (begins + ends) // 2, wall, ends - 1):
        flip(events, at)
        assert newest() == 1
        flip(events, at)
    for at in range(0, begins, 97):
        flip(events, at, at % 8)
        with pytest.raises(DamagedLogError, match=LINE):
            newest()
        flip(events, at, at % 8)
    require_beginning(events, LogMark(newer.events, newer.sha256))  # as an earlier version marked it


def test_a_bit_that_flips_in_the_data_is_refused(
    text_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["data=text", f"data.path={text_folder}", f"data.root={tmp_path}", "tokenizer.vocab_size=300"]
    assert guarded(lambda: prepare.main(options)) == 0
    (folder,) = tmp_path.glob("text-*/")
    files = sorted(path for path in folder.iterdir() if path.name != ".verified.json")
    assert len(files) == 4
    for path in files:
        flip(path)
        capsys.readouterr()
        assert guarded(lambda: prepare.main(options)) == 2
        said = capsys.readouterr()
        assert said.err.startswith(f"fednano: {path} "), "the line names the file"
        assert "; delete " in said.err, "and the remedy"
        assert len(said.err.splitlines()) == 1
        flip(path)
    add_strays(folder)
    flip(folder / ".verified.json")
    assert guarded(lambda: prepare.main(options)) == 0
