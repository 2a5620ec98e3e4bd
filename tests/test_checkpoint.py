"""Checkpoints come back as they were saved, and damaged ones are refused in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fednano.data.ledger import Ledger
from fednano.strategy.base import ServerState
from fednano.tensors import digest
from fednano.training.checkpoint import Checkpoints
from fednano.training.recorder import Progress


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    ledger = Ledger([10])
    ledger.lease(0, 0, 6)
    ledger.settle(0, 4, 2)
    state = ServerState({"w": torch.arange(6.0).view(2, 3)}, {"momentum": torch.ones(3)}, 7)
    return tmp_path / Checkpoints(tmp_path, 2).save(state, ledger, Progress(rounds=3, tokens=640), 12.5)


def test_what_is_saved_comes_back(checkpoint: Path) -> None:
    state, ledger, progress, clock = Checkpoints.load(checkpoint)
    assert (digest(state.weights), state.version) == (digest({"w": torch.arange(6.0).view(2, 3)}), 7)
    assert digest(state.outer) == digest({"momentum": torch.ones(3)})
    assert (progress.rounds, progress.tokens, clock) == (3, 640, 12.5)
    assert ledger.counts()["done"] == 4


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "state.json").unlink(), "is no checkpoint; name a folder below checkpoints/"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "has a damaged weights.safetensors"),
        (lambda folder: (folder / "weights.safetensors").write_bytes(b"x"), "has a damaged weights.safetensors"),
        (lambda folder: (folder / "outer.safetensors").write_bytes(b""), "has a damaged outer.safetensors"),
        (lambda folder: (folder / "state.json").write_text("{"), "has a damaged state.json"),
        (lambda folder: (folder / "state.json").write_text('{"version": 1}'), "has a damaged state.json"),
    ],
)
def test_a_damaged_one_is_refused(checkpoint: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(checkpoint)
    with pytest.raises(ValueError, match=words) as caught:
        Checkpoints.load(checkpoint)
    assert str(checkpoint) in str(caught.value)
    assert "\n" not in str(caught.value)
