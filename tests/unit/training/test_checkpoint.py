"""Checkpoints come back as they were saved, and damaged ones are refused in one line."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch

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
        state=ServerState({"w": torch.arange(6.0).view(2, 3)}, {"momentum": torch.ones(3)}, 7),
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
        (lambda folder: (folder / "state.json").unlink(), "is not a checkpoint; name a folder below checkpoints/"),
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
