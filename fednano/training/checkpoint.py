"""Checkpoints and exported models: safetensors and JSON, written whole or not at all."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fednano.data.files import write_atomically
from fednano.data.ledger import Ledger
from fednano.events import finite
from fednano.model.gpt import GPT, GPTConfig
from fednano.strategy.base import ServerState
from fednano.tensors import State
from fednano.tokenizer import Tokenizer
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
        """The inverse of `save`. Raises ValueError if the folder is no checkpoint or a damaged one."""
        if not (folder / STATE).is_file():
            raise ValueError(f"{folder} is no checkpoint; name a folder below checkpoints/")
        named = f"checkpoint {folder}"
        outer = _read_tensors(named, folder / OUTER) if (folder / OUTER).exists() else {}
        weights = _read_tensors(named, folder / WEIGHTS)
        try:
            record = json.loads((folder / STATE).read_text(encoding="utf-8"))
            state = ServerState(weights, outer, record["version"])
            return state, Ledger.from_record(record["ledger"]), Progress(**record["progress"]), record["clock"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{named} has a damaged {STATE} ({error!r}); name another one") from error


def save_model(folder: Path, weights: State, config: GPTConfig, save_tokenizer: Callable[[Path], None]) -> None:
    """Export a model for sampling and other tools: weights, configuration, tokenizer."""

    def fill(target: Path) -> None:
        save_file(_contiguous(weights), target / MODEL, metadata={"format": "pt"})
        write_json(target / CONFIG, config.to_dict())
        save_tokenizer(target / TOKENIZER)

    write_folder(folder, fill)


def load_model(folder: Path) -> GPT:
    """The model of an exported folder. Raises ValueError if it is none, damaged, or put together from several."""
    for name in (MODEL, CONFIG, TOKENIZER):
        if not (folder / name).is_file():
            raise ValueError(f"model_dir={folder} has no {name}; name the model/ folder of a run")
    try:
        config = GPTConfig.from_dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"model_dir={folder} has a {CONFIG} that describes no model ({error}); name the model/ folder of a run"
        ) from error
    state = _read_tensors(f"model_dir={folder}", folder / MODEL)
    model = GPT(config)
    differences = _differences(model.state_dict(), state)
    if differences:
        more = f" and {len(differences) - 1} more" if len(differences) > 1 else ""
        raise ValueError(
            f"model_dir={folder} has a {MODEL} of another model than its {CONFIG}: it {differences[0]}{more}; "
            "name a folder whose files are of one run"
        )
    model.load_state_dict(state)
    return model


def load_tokenizer(folder: Path, model: GPT) -> Tokenizer:
    """The tokenizer of an exported folder. Raises ValueError if it is damaged or not that of `model`."""
    tokenizer = Tokenizer.load(folder / TOKENIZER)
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"model_dir={folder} has a {TOKENIZER} of {tokenizer.vocab_size} ids where its {CONFIG} says "
            f"vocab_size={model.config.vocab_size}; name a folder whose files are of one run"
        )
    return tokenizer


def _read_tensors(named: str, path: Path) -> State:
    """The tensors of a safetensors file. Raises ValueError, which begins with `named`, where it cannot be read."""
    try:
        state: State = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{named} has a damaged {path.name} ({error}); restore it or name another") from error
    return state


def _differences(expected: State, found: State) -> list[str]:
    """In what `found` is not a state of the shapes `expected`."""
    return [
        *(f"lacks {name}" for name in expected if name not in found),
        *(f"holds {name}, which the model has not" for name in found if name not in expected),
        *(
            f"holds {name} as {list(found[name].shape)} where the model has {list(tensor.shape)}"
            for name, tensor in expected.items()
            if name in found and found[name].shape != tensor.shape
        ),
    ]


def _contiguous(state: State) -> State:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
