"""Checkpoints and exported models: safetensors and JSON, written whole or not at all."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from fednano.data.files import write_atomically
from fednano.data.ledger import Ledger
from fednano.events import finite
from fednano.model.gpt import GPT, GPTConfig
from fednano.strategy.base import ServerState
from fednano.tensors import State
from fednano.training.recorder import Progress

WEIGHTS, OUTER, STATE = "weights.safetensors", "outer.safetensors", "state.json"
MODEL, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"


def write_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a temporary folder, then put it in the place of `target` in one rename."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    fill(temporary)
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write `record` as indented JSON, atomically; null is a number that is not finite."""
    write_atomically(path, json.dumps(finite(record), indent=2, allow_nan=False) + "\n")


class Checkpoints:
    """The checkpoints of a run, the newest `keep` of them.

    Each holds the global weights, the outer optimizer's state, and as JSON the ledger, the progress and the clock.
    Rows count as done only by what is in here: leases in force are saved as free.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = keep

    def save(self, state: ServerState, ledger: Ledger, progress: Progress, now: float) -> str:
        """Write a checkpoint named by its version and return the name."""
        name = f"version_{state.version:06d}"

        def fill(folder: Path) -> None:
            save_file(_contiguous(state.weights), folder / WEIGHTS)
            if state.outer:
                save_file(_contiguous(state.outer), folder / OUTER)
            record = {
                "version": state.version,
                "clock": now,
                "progress": asdict(progress),
                "ledger": ledger.to_record(),
            }
            write_json(folder / STATE, record)

        write_folder(self._folder / name, fill)
        for old in sorted(self._folder.glob("version_*"))[: -self._keep]:
            shutil.rmtree(old)
        return name

    @staticmethod
    def load(folder: Path) -> tuple[ServerState, Ledger, Progress, float]:
        """The inverse of `save`. Raises ValueError if the folder is no checkpoint."""
        if not (folder / STATE).is_file():
            raise ValueError(f"{folder} is no checkpoint; name a folder below checkpoints/")
        record = json.loads((folder / STATE).read_text(encoding="utf-8"))
        outer = load_file(folder / OUTER) if (folder / OUTER).exists() else {}
        state = ServerState(load_file(folder / WEIGHTS), outer, record["version"])
        return state, Ledger.from_record(record["ledger"]), Progress(**record["progress"]), record["clock"]


def save_model(folder: Path, weights: State, config: GPTConfig, save_tokenizer: Callable[[Path], None]) -> None:
    """Export a model for sampling and other tools: weights, configuration, tokenizer."""

    def fill(target: Path) -> None:
        save_file(_contiguous(weights), target / MODEL, metadata={"format": "pt"})
        write_json(target / CONFIG, config.to_dict())
        save_tokenizer(target / TOKENIZER)

    write_folder(folder, fill)


def load_model(folder: Path) -> GPT:
    """The model of an exported folder. Raises ValueError if it is none."""
    for name in (MODEL, CONFIG, TOKENIZER):
        if not (folder / name).is_file():
            raise ValueError(f"model_dir={folder} has no {name}; name the model/ folder of a run")
    model = GPT(GPTConfig.from_dict(json.loads((folder / CONFIG).read_text(encoding="utf-8"))))
    model.load_state_dict(load_file(folder / MODEL))
    return model


def _contiguous(state: State) -> State:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
