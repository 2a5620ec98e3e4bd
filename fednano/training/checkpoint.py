"""Checkpoints and exported models as safetensors and JSON, written atomically."""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fednano.core.event_log import LogMark
from fednano.core.events import CheckpointSaved, finite
from fednano.core.failures import named, naming
from fednano.core.files import write_atomically
from fednano.core.tensors import State
from fednano.model.gpt import GPT, GPTConfig
from fednano.strategy.base import ServerState
from fednano.tokenizer import Tokenizer
from fednano.training.recorder import RunProgress

WEIGHTS, OUTER, MEAN = "weights.safetensors", "outer.safetensors", "mean.safetensors"
INNER, STATE = "inner", "state.json"
MODEL, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"


def write_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a temporary folder, then rename it to `target`; a failure leaves nothing behind."""
    temporary, replaced = (target.with_name(f".{target.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    shutil.rmtree(temporary, ignore_errors=True)
    with naming(target):
        try:
            temporary.mkdir(parents=True)
            fill(temporary)
            if target.exists():
                target.rename(replaced)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            if replaced.exists() and not target.exists():
                replaced.rename(target)
            raise
    shutil.rmtree(replaced, ignore_errors=True)


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write `record` as indented JSON, atomically; numbers that are not finite become null."""
    write_atomically(path, json.dumps(finite(record), indent=2, allow_nan=False) + "\n")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All that a run needs to resume after a round, when no work is in progress and no reply on its way.

    Args:
        state: the global model and the outer optimizer's state.
        inner: state that each client keeps between rounds, by client.
        ledger: `Ledger.to_record`.
        progress: the run's counts.
        clock: seconds on the run's clock.
        leases: number of leases granted so far.
        up: clients that the server saw up.
        leaving: clients among them that have drained.
        event_log: length of the event log at this point.
        due: whether the configuration asks for a checkpoint here.
        wall_s: wall-clock seconds of the run.
        train_s: wall-clock seconds inside inner steps.
        data_s: those of them spent waiting for batches.
    """

    state: ServerState
    inner: Mapping[str, State]
    ledger: dict[str, Any]
    progress: RunProgress
    clock: float
    leases: int
    up: tuple[str, ...]
    leaving: tuple[str, ...]
    event_log: LogMark
    due: bool
    wall_s: float
    train_s: float
    data_s: float

    @property
    def saved(self) -> CheckpointSaved:
        """The event for a written checkpoint, which is named after the number of rounds done."""
        rounds = self.progress.rounds
        return CheckpointSaved(t=self.clock, round=rounds, version=self.state.version, name=f"round_{rounds:06d}")


class Checkpoints:
    """The newest `keep` checkpoints of a run.

    Each holds the global weights, the outer and inner optimizers' states, and the rest of a `Snapshot` as JSON. Rows
    count as done only once a checkpoint holds them.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = keep

    def save(self, snapshot: Snapshot) -> CheckpointSaved:
        """Write a checkpoint, then remove the surplus ones; a complete one exists at any moment."""
        for left in self._folder.glob(".*"):
            shutil.rmtree(left)  # left by a process that was killed while writing
        state = snapshot.state

        def fill(folder: Path) -> None:
            _save(state.weights, folder / WEIGHTS)
            _save(state.outer, folder / OUTER)
            _save(state.inner, folder / MEAN)
            (folder / INNER).mkdir()
            for client, inner in snapshot.inner.items():
                _save(inner, folder / INNER / f"{client}.safetensors")
            apart = ("state", "inner", "event_log")
            rest = {f.name: getattr(snapshot, f.name) for f in fields(Snapshot) if f.name not in apart}
            record = {**rest, "progress": asdict(snapshot.progress), "tape": asdict(snapshot.event_log)}
            write_json(folder / STATE, {"version": state.version, **record})

        write_folder(self._folder / snapshot.saved.name, fill)
        for old in self._all(self._folder)[: -self._keep]:
            shutil.rmtree(old)
        return snapshot.saved

    @staticmethod
    def load(folder: Path) -> Snapshot:
        """The inverse of `save`. Raises ValueError if the folder is not a checkpoint or is damaged."""
        if not (folder / STATE).is_file():
            raise ValueError(f"{folder} is not a checkpoint; name a folder below checkpoints/")
        try:
            record = json.loads((folder / STATE).read_text(encoding="utf-8"))
            weights, outer, mean = (load_file(folder / name) for name in (WEIGHTS, OUTER, MEAN))
            state = ServerState(weights, outer, record.pop("version"), mean)
            inner = {path.stem: load_file(path) for path in sorted((folder / INNER).iterdir())}
            record["progress"], record["event_log"] = RunProgress(**record["progress"]), LogMark(**record.pop("tape"))
            record["up"], record["leaving"] = tuple(record["up"]), tuple(record["leaving"])
            return Snapshot(state=state, inner=inner, **record)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ValueError(
                f"{folder} is a damaged checkpoint ({error}); remove it to resume from the previous one"
            ) from error

    @classmethod
    def newest(cls, folder: Path) -> Snapshot | None:
        """The newest checkpoint in `folder`, None if there is none. Raises ValueError if it is damaged."""
        found = cls._all(folder)
        return cls.load(found[-1]) if found else None

    @staticmethod
    def _all(folder: Path) -> list[Path]:
        return sorted(folder.glob("round_*"))


def save_model(folder: Path, weights: State, config: GPTConfig, save_tokenizer: Callable[[Path], None]) -> None:
    """Export a model for sampling and other tools: weights, configuration, tokenizer."""

    def fill(target: Path) -> None:
        _save(weights, target / MODEL, {"format": "pt"})
        write_json(target / CONFIG, config.to_dict())
        save_tokenizer(target / TOKENIZER)

    write_folder(folder, fill)


def load_model(folder: Path) -> GPT:
    """The model of an exported folder. Raises ValueError if it is not a model, damaged, or mixed from several."""
    for name in (MODEL, CONFIG, TOKENIZER):
        if not (folder / name).is_file():
            raise ValueError(f"model_dir={folder} has no {name}; name the model/ folder of a run")
    try:
        config = GPTConfig.from_dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"the {CONFIG} of model_dir={folder} does not describe a model ({error}); name the model/ folder of a run"
        ) from error
    state = _read_tensors(f"model_dir={folder}", folder / MODEL)
    model = GPT(config)
    differences = _differences(model.state_dict(), state)
    if differences:
        more = f" and {len(differences) - 1} more" if len(differences) > 1 else ""
        raise ValueError(
            f"the {MODEL} of model_dir={folder} does not match its {CONFIG}: it {differences[0]}{more}; "
            "name a folder whose files come from one run"
        )
    model.load_state_dict(state)
    return model


def load_tokenizer(folder: Path, model: GPT) -> Tokenizer:
    """The tokenizer of an exported folder. Raises ValueError if it is damaged or not that of `model`."""
    tokenizer = Tokenizer.load(folder / TOKENIZER)
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"the {TOKENIZER} of model_dir={folder} must have vocab_size={model.config.vocab_size} ids, as its "
            f"{CONFIG} says, got {tokenizer.vocab_size}; name a folder whose files come from one run"
        )
    return tokenizer


def _read_tensors(named: str, path: Path) -> State:
    """The tensors of a safetensors file. Raises a ValueError that begins with `named` if it cannot be read."""
    try:
        state: State = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{named} has a damaged {path.name} ({error}); restore it or name another") from error
    return state


def _differences(expected: State, found: State) -> list[str]:
    """How the names and shapes of `found` differ from `expected`."""
    return [
        *(f"lacks {name}" for name in expected if name not in found),
        *(f"holds {name}, which the model has not" for name in found if name not in expected),
        *(
            f"holds {name} as {list(found[name].shape)} where the model has {list(tensor.shape)}"
            for name, tensor in expected.items()
            if name in found and found[name].shape != tensor.shape
        ),
    ]


def _save(state: State, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file. Raises OSError, as any other writing does."""
    try:
        save_file(_contiguous(state), path, metadata)
    except SafetensorError as error:
        if found := re.search(r"os error (\d+)", str(error)):
            raise named(int(found[1]), path) from error
        raise


def _contiguous(state: State) -> State:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
