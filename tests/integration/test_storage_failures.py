"""Runs whose files cannot be written or read: one line that names the file and the remedy, and a run that resumes."""

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.deployed import linux
from support.faulty import unwritable
from support.runs import assert_same, summary_of

from fednano.core.event_log import EventLog, read_log
from fednano.core.events import CheckpointSaved
from fednano.core.failures import REMEDIES, explained, naming
from fednano.data.shards import Corpus
from fednano.runtime.run_folder import Written

Command = Callable[..., subprocess.CompletedProcess[str]]

# The third checkpoint finds no room, as `save_file` tells it, and neither does any later one.
FULL = """
import sys
from safetensors import SafetensorError
from fednano.training import tensor_files
save, saved = tensor_files.save_file, []
def full(*given):
    saved.append(given)
    if len(saved) > 8:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    save(*given)
tensor_files.save_file = full
from fednano.run import main
sys.exit(main())
"""
# The shard vanishes after the first round.
GONE = """
import sys
from fednano.data import shards
from fednano.training.recorder import Recorder
after, corpora = Recorder.after_round, []
made = shards.Corpus.__init__
def make(self, *given):
    made(self, *given)
    corpora.append(self)
def vanish(self, *given, **named):
    after(self, *given, **named)
    for corpus in corpora:
        corpus._files._held.clear(), corpus._groups._held.clear()
        for shard in corpus.folder.glob("train*.parquet"):
            shard.rename(shard.with_suffix(".away"))
shards.Corpus.__init__, Recorder.after_round = make, vanish
from fednano.run import main
sys.exit(main())
"""


def test_a_full_disk_fails_a_run_that_resumes_with_room_again(
    command: Command, tiny: list[str], tmp_path: Path
) -> None:
    options = [*tiny, "rounds=4", "checkpoint_every=1", "eval_tokens=64"]
    assert command("run", *options, "hydra.run.dir=whole", cwd=tmp_path).returncode == 0
    ended = subprocess.run(
        [sys.executable, "-c", FULL, *options, "hydra.run.dir=full"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    summary = json.loads((tmp_path / "full" / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert "No space left on device" in summary["error"] and "make room" in summary["error"]
    assert ended.stderr == f"fednano: {summary['error']}\n"
    assert all(path.name.startswith("round_") for path in (tmp_path / "full" / "checkpoints").iterdir())
    again = command("run", "resume=full", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert_same(summary_of(tmp_path / "full"), summary_of(tmp_path / "whole"))
    assert summary_of(tmp_path / "full")["error"] is None


def test_a_shard_that_vanishes_fails_a_run_in_one_line(tiny: list[str], tmp_path: Path) -> None:
    options = [word for word in tiny if not word.startswith("data.root=")]
    ended = subprocess.run(
        [sys.executable, "-c", GONE, *options, f"data.root={tmp_path}/root", "hydra.run.dir=gone"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    summary = json.loads((tmp_path / "gone" / "summary.json").read_text())
    assert (ended.returncode, summary["status"]) == (1, "failed")
    assert ended.stderr == f"fednano: {summary['error']}\n"
    assert "train_00000.parquet cannot be read (No such file or directory); restore it" in summary["error"]


def test_a_shard_that_becomes_shorter_is_told(tiny: list[str], command: Command, tmp_path: Path) -> None:
    wanted = [word for word in tiny if word.startswith(("data", "tokenizer")) and "data.root" not in word]
    assert command("prepare", *wanted, f"data.root={tmp_path}/root", cwd=tmp_path).returncode == 0
    (folder,) = [path for path in (tmp_path / "root").iterdir() if path.is_dir()]
    corpus = Corpus.open(folder)
    shard = corpus._open(corpus.manifest.of("train")[0])
    os.truncate(folder / "train_00000.parquet", 10)
    with pytest.raises(OSError, match=r"train_00000\.parquet cannot be read"):
        shard.read(0)


def test_an_event_log_without_room_keeps_whole_lines_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    event_log = EventLog(path)
    first, second = (CheckpointSaved(t=0.0, round=r, version=r, name="x" * 60) for r in (1, 2))
    event_log.append(first)
    event_log.mark()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
    try:
        event_log.append(second)
        with pytest.raises(OSError) as caught:
            event_log.mark()
        assert explained(caught.value) == (
            f"{path} cannot be used (File too large); raise the limit on the size of a file (ulimit -f)"
        )
        assert list(read_log(path)) == [first]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    event_log.close()
    assert list(read_log(path)) == [first, second]


def test_a_folder_without_room_is_refused_before_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from fednano.core.files import require_room

    require_room("hydra.run.dir", tmp_path / "none" / "run")
    found = os.statvfs(tmp_path)
    values = list(found)
    values[3] = values[4] = 0  # free blocks
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(values))
    with pytest.raises(ValueError, match=r"hydra\.run\.dir must be on a disk with room"):
        require_room("hydra.run.dir", tmp_path / "none" / "run")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_failure_outside_the_program_names_the_file_and_the_remedy(number: int) -> None:
    with pytest.raises(OSError) as caught, naming(Path("/data/file")):
        raise OSError(number, "said by a library")
    said = explained(caught.value)
    assert said is not None and said.startswith(f"/data/file cannot be used ({os.strerror(number)}); ")
    assert explained(ValueError("x")) is None


# What cannot be written, and how many such writes go well before.
PLACES = {
    "checkpoints": 6,
    "events.jsonl": 2,
    "metrics.jsonl": 0,
    "energy.json": 0,
    "summary.json": 0,
    "report.html": 0,
}
NUMBERS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO]


@linux
@pytest.mark.parametrize(
    ("place", "number"),
    [
        pytest.param(place, number, marks=() if i % len(NUMBERS) == j else pytest.mark.slow)
        for i, place in enumerate(PLACES)
        for j, number in enumerate(NUMBERS)
    ],
)
def test_whatever_cannot_be_written_fails_a_run_that_resumes(
    place: str, number: int, run: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Exception] = []
    noted = Written.failed

    def note(written: Written, error: Exception) -> None:
        errors.append(error)
        noted(written, error)

    monkeypatch.setattr(Written, "failed", note)
    options = ["runtime.compute=analytic", "rounds=4", "checkpoint_every=1"]
    whole = run(*options, folder="whole")
    path = f"{tmp_path}/full/{place}" if place == "events.jsonl" else place
    # Without a summary there is none to return.
    with unwritable(path, number, PLACES[place]) as failed, suppress(FileNotFoundError):
        run(*options, folder="full")
    assert failed
    said = explained(errors[0])
    assert said is not None and "\n" not in said
    assert place in said and f"({os.strerror(number)}); {REMEDIES[number]}" in said
    folder = tmp_path / "full"
    left = {path.name for path in folder.rglob("*")}
    assert not [name for name in left if name.endswith(".tmp")]
    if place == "summary.json":
        assert "summary.json" not in left
    else:
        summary = json.loads((folder / "summary.json").read_text())
        assert (summary["status"], summary["error"]) == ("failed", said)
    assert_same(run(*options, folder="full", resume=True), whole)
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole["folder"].iterdir()}
