"""Checkpoints come back as they were saved, and damaged ones are skipped or refused in one line."""

import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from support.damage import add_strays, as_of_an_earlier_version, flip, strays

from fednano.core.event_log import LogMark
from fednano.core.tensors import digest
from fednano.data.ledger import Ledger
from fednano.strategy.base import ServerState
from fednano.training.checkpoint import Checkpoints, Snapshot
from fednano.training.recorder import RunProgress


@pytest.fixture
def snapshot() -> Snapshot:
    ledger = Ledger([10])
    ledger.lease(0, 0, 6)
    ledger.settle(0, 4, 2)
    return Snapshot(
        state=ServerState(weights={"w": torch.arange(6.0).view(2, 3)}, outer={"momentum": torch.ones(3)}, version=7),
        inner={"client_0": {"moment": torch.ones(2)}},
        ledger=ledger.to_record(),
        progress=RunProgress(rounds=3, tokens=640),
        clock=12.5,
        leases=4,
        up=("client_0", "client_1"),
        leaving=("client_1",),
        event_log=LogMark(9, "ab"),
        due=True,
        wall_s=3.0,
        train_s=2.0,
        data_s=1.0,
    )


@pytest.fixture
def checkpoint(tmp_path: Path, snapshot: Snapshot) -> Path:
    return tmp_path / Checkpoints(tmp_path, 2).save(snapshot).name


def test_what_is_saved_comes_back(checkpoint: Path, snapshot: Snapshot) -> None:
    loaded = Checkpoints.load(checkpoint)
    assert (digest(loaded.state.weights), loaded.state.version) == (digest(snapshot.state.weights), 7)
    assert digest(loaded.state.outer) == digest(snapshot.state.outer)
    assert {client: digest(state) for client, state in loaded.inner.items()} == {
        client: digest(state) for client, state in snapshot.inner.items()
    }
    rest = [field.name for field in fields(Snapshot) if field.name not in ("state", "inner", "ledger")]
    assert [getattr(loaded, name) for name in rest] == [getattr(snapshot, name) for name in rest]
    assert Ledger.from_record(loaded.ledger).counts()["done"] == 4


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: [path.unlink() for path in folder.glob("*.*")], "is not a checkpoint; name a folder below"),
        (lambda folder: (folder / "state.json").unlink(), "is a damaged checkpoint"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "is a damaged checkpoint"),
        (lambda folder: (folder / "weights.safetensors").write_bytes(b"x"), "is a damaged checkpoint"),
        (lambda folder: (folder / "outer.safetensors").write_bytes(b""), "is a damaged checkpoint"),
        (lambda folder: (folder / "state.json").write_text("{"), "is a damaged checkpoint"),
        (lambda folder: (folder / "state.json").write_text('{"version": 1}'), "is a damaged checkpoint"),
    ],
)
def test_a_damaged_one_is_refused(checkpoint: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(checkpoint)
    with pytest.raises(ValueError, match=words) as caught:
        Checkpoints.load(checkpoint)
    assert str(checkpoint) in str(caught.value)
    assert "\n" not in str(caught.value)


def saved(folder: Path, snapshot: Snapshot, *rounds: int, keep: int = 2) -> list[str]:
    """The names in `folder` after checkpoints at the ends of `rounds` were saved."""
    for done in rounds:
        Checkpoints(folder, keep).save(replace(snapshot, progress=replace(snapshot.progress, rounds=done)))
    return sorted(path.name for path in folder.iterdir())


def rounds_of(found: Snapshot | None) -> int | None:
    return found and found.progress.rounds


def test_no_bit_of_a_checkpoint_flips_unseen(checkpoint: Path) -> None:
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    assert len(files) == 6
    for path in files:
        for at in range(0, path.stat().st_size, 5):
            flip(path, at, at % 8)
            with pytest.raises(ValueError, match=f"is a damaged checkpoint .*{path.name}"):
                Checkpoints.load(checkpoint)
            flip(path, at, at % 8)
    Checkpoints.load(checkpoint)


@pytest.mark.parametrize("damage", [flip, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_damaged_one_is_skipped_for_the_newest_sound_one(
    tmp_path: Path, snapshot: Snapshot, damage: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path, snapshot, 3, 4, 5, keep=3)
    newest, middle = tmp_path / "round_000005", tmp_path / "round_000004"
    for path in sorted(path for path in newest.rglob("*") if path.is_file()):
        kept, name = path.read_bytes(), path.relative_to(newest).as_posix()
        damage(path)
        assert rounds_of(Checkpoints.newest(tmp_path)) == 4
        said = capsys.readouterr().err
        assert said.startswith(f"fednano: warning: skipped the checkpoint {newest}: {name} ")
        assert len(said.splitlines()) == 1
        path.write_bytes(kept)
    damage(newest / "weights.safetensors")
    damage(middle / "state.json")
    assert rounds_of(Checkpoints.newest(tmp_path)) == 3
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_client_state_too_many_is_seen(checkpoint: Path) -> None:
    shutil.copy(checkpoint / "inner" / "client_0.safetensors", checkpoint / "inner" / "client_1.safetensors")
    with pytest.raises(ValueError, match=r"inner/client_1.safetensors is not in manifest.json"):
        Checkpoints.load(checkpoint)


def test_without_a_sound_one_a_line_says_so(
    tmp_path: Path, snapshot: Snapshot, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path, snapshot, 3, 4)
    for checkpoint in tmp_path.iterdir():
        flip(checkpoint / "outer.safetensors")
    with pytest.raises(ValueError, match=r"no checkpoint .* is sound \(.*round_000004: outer.*\); .* start a new run"):
        Checkpoints.newest(tmp_path)
    assert capsys.readouterr().err == ""
    assert Checkpoints.newest(tmp_path / "none") is None


def test_one_of_an_earlier_version_is_read_with_a_warning(
    checkpoint: Path, snapshot: Snapshot, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint / "inner" / ".DS_Store").touch()
    as_of_an_earlier_version(checkpoint)
    found = Checkpoints.newest(checkpoint.parent)
    assert found and digest(found.inner["client_0"]) == digest(snapshot.inner["client_0"])
    assert capsys.readouterr().err == (
        f"fednano: warning: {checkpoint} is of an earlier version, without digests; it cannot be verified\n"
    )
    assert saved(checkpoint.parent, snapshot, 4, 5) == ["round_000004", "round_000005"]


def test_what_is_not_fednanos_is_left_alone(
    tmp_path: Path, snapshot: Snapshot, capsys: pytest.CaptureFixture[str]
) -> None:
    before = add_strays(tmp_path)
    (tmp_path / ".round_000003.77.tmp").mkdir()
    (tmp_path / ".round_000003.77.old").mkdir()
    mine = saved(tmp_path, snapshot, 3, 4, 5)
    assert [name for name in mine if name.startswith(("round_0", ".round"))] == [
        "round_000004",
        "round_000005",
    ]
    for folder in (tmp_path / "round_000005", tmp_path / "round_000005" / "inner"):
        for name in (".DS_Store", "._client_0.safetensors", ".nfs0001", "Thumbs.db"):
            (folder / name).write_bytes(b"x")
    assert rounds_of(Checkpoints.newest(tmp_path)) == 5
    assert strays(tmp_path) == before
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_in_the_way_is_moved_aside(
    tmp_path: Path, snapshot: Snapshot, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    way = tmp_path / "round_000004"
    match kind:
        case "file":
            way.write_text("mine")
        case "folder":
            way.mkdir()
        case "link":
            way.symlink_to("nowhere")
    assert saved(tmp_path, snapshot, 3, 4, 5) == ["round_000004", "round_000004.moved_1", "round_000005"]
    assert f"{way} was in the way of a checkpoint and is now round_000004.moved_1" in capsys.readouterr().err
    assert rounds_of(Checkpoints.newest(tmp_path)) == 5


def test_a_link_to_a_checkpoint_is_read_and_kept(tmp_path: Path, snapshot: Snapshot) -> None:
    saved(tmp_path / "elsewhere", snapshot, 1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "round_000001").symlink_to(tmp_path / "elsewhere" / "round_000001")
    assert rounds_of(Checkpoints.newest(tmp_path / "run")) == 1
    assert saved(tmp_path / "run", snapshot, 2, 3, 4) == ["round_000001", "round_000003", "round_000004"]
    kept = ["round_000001", "round_000001.moved_1"]
    assert saved(tmp_path / "run", snapshot, 1) == kept, "a run that begins again does not write through the link"
    assert rounds_of(Checkpoints.newest(tmp_path / "elsewhere")) == 1


def test_what_a_resumed_run_has_abandoned_is_removed(tmp_path: Path, snapshot: Snapshot) -> None:
    """Otherwise a damaged checkpoint would count as one of those to keep until its round is reached again."""
    saved(tmp_path, snapshot, 4, 8)
    flip(tmp_path / "round_000008" / "weights.safetensors")
    assert saved(tmp_path, snapshot, 5, keep=1) == ["round_000005"]


def test_rounds_are_numbers(tmp_path: Path, snapshot: Snapshot) -> None:
    saved(tmp_path, snapshot, 999_999, 1_000_000)
    assert rounds_of(Checkpoints.newest(tmp_path)) == 1_000_000
