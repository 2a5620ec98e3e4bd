"""Claims: a folder has one owner, whose death frees it, and nothing is left of a claim given up."""

import json
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from fednano.core import claim as claims
from fednano.core.claim import ABANDONED_S, CLAIM, ClaimedError, claim, claim_new


def hold(folder: Path, pipe: Connection) -> None:
    held = claim(folder)
    pipe.send("claimed")
    pipe.recv()
    held.release()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[BaseProcess]:
    """A process that has claimed the folder `run`."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path / "run", there), daemon=True)
    process.start()
    assert here.recv() == "claimed"
    yield process
    process.kill()
    process.join()


@pytest.fixture
def held(holder: BaseProcess, tmp_path: Path) -> tuple[Path, int]:
    """A folder claimed by another process, and its process id."""
    assert holder.pid is not None
    return tmp_path / "run", holder.pid


def test_a_folder_claimed_by_another_process_is_refused_and_unchanged(held: tuple[Path, int]) -> None:
    folder, pid = held
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ClaimedError, match=f"^process {pid} on {socket.gethostname()}$"):
        claim(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_whose_owner_was_killed_is_claimed_again(held: tuple[Path, int], holder: BaseProcess) -> None:
    folder, _ = held
    holder.kill()
    holder.join()
    assert (folder / CLAIM).exists()
    claim(folder).release()
    assert not (folder / CLAIM).exists()


def test_a_run_in_a_claimed_folder_leaves_the_claim_to_its_owner(held: tuple[Path, int], tmp_path: Path) -> None:
    folder, pid = held
    with claims.held(folder):
        assert json.loads((folder / CLAIM).read_text())["pid"] == pid
    assert json.loads((folder / CLAIM).read_text())["pid"] == pid
    own = claim(tmp_path / "own")
    with claims.held(own.folder):
        pass
    assert (own.folder / CLAIM).exists()
    own.release()


def test_a_claim_given_up_leaves_nothing_that_it_made(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    claim(tmp_path / "outputs/a/b").release()
    claim_new(tmp_path / "outputs/a/b").release()
    assert list(tmp_path.rglob("*")) == [tmp_path / "outputs"]
    (tmp_path / "mine").mkdir()
    claim(tmp_path / "mine").release()
    assert (tmp_path / "mine").is_dir(), "an empty folder of the user's stays"
    used = claim(tmp_path / "used")
    (tmp_path / "used/events.jsonl").touch()
    used.release()
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["events.jsonl"]


def test_folders_of_one_name_are_numbered(tmp_path: Path) -> None:
    made = [claim_new(tmp_path / "x/now") for _ in range(3)]
    assert [one.folder.name for one in made] == ["now", "now_1", "now_2"]
    for one in reversed(made):
        one.release()
    assert not list(tmp_path.iterdir())


def left(folder: Path, host: str | None, pid: int, age_s: float) -> None:
    folder.mkdir()
    (folder / CLAIM).write_text(json.dumps({"host": host, "pid": pid}) if host else "")
    then = (folder / CLAIM).stat().st_mtime - age_s
    os.utime(folder / CLAIM, (then, then))


@pytest.mark.parametrize("host", ["elsewhere", None])  # None: killed before it wrote its name
def test_a_claim_whose_owner_cannot_be_seen_ends_with_time(tmp_path: Path, host: str | None) -> None:
    left(tmp_path / "young", host, 1, ABANDONED_S - 60)
    with pytest.raises(ClaimedError, match=r"process .* on (elsewhere|some machine)$"):
        claim(tmp_path / "young")
    left(tmp_path / "old", host, 1, ABANDONED_S + 60)
    claim(tmp_path / "old").release()


@pytest.mark.parametrize("alive", [True, False])
def test_where_files_cannot_be_locked_the_process_is_looked_for(
    tmp_path: Path, alive: bool, monkeypatch: pytest.MonkeyPatch, held: tuple[Path, int], holder: BaseProcess
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError("no locks")

    monkeypatch.setattr(claims.fcntl, "flock", unsupported)
    folder, _ = held
    if alive:
        with pytest.raises(ClaimedError):
            claim(folder)
    else:
        holder.kill()
        holder.join()
        claim(folder).release()


def test_of_many_claims_at_once_one_succeeds(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CLAIM).write_text(json.dumps({"host": socket.gethostname(), "pid": 1}))  # left behind

    def race(take: Callable[[Path], claims.Claim], results: "multiprocessing.SimpleQueue[str]") -> None:
        try:
            taken = take(tmp_path / "run")
        except ClaimedError:
            results.put("")
            return
        results.put(taken.folder.name)
        done.wait()  # holds it until all have tried

    context = multiprocessing.get_context("fork")
    for take, expected in ((claim, ["run"]), (claim_new, ["run_1", "run_2", "run_3", "run_4", "run_5", "run_6"])):
        done, results = context.Event(), context.SimpleQueue()
        processes = [context.Process(target=race, args=(take, results), daemon=True) for _ in range(6)]
        for process in processes:
            process.start()
        won = sorted(filter(None, (results.get() for _ in processes)))
        done.set()
        for process in processes:
            process.join()
        assert won == expected
