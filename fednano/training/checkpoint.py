"""Checkpoints and exported models as safetensors and JSON, written atomically and sealed by digests."""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from itertools import count
from pathlib import Path
from typing import Any

from fednano.config.errors import one_line, warn
from fednano.core.event_log import DamagedLogError, LogMark, require_beginning
from fednano.core.events import CheckpointSaved, finite
from fednano.core.files import read_json, remove_unfinished, write_atomically, write_folder
from fednano.core.sealed import MANIFEST, check_seal, seal
from fednano.core.tensors import State
from fednano.model.gpt import GPT, GPTConfig
from fednano.strategy.base import ServerState
from fednano.tokenizer import Tokenizer
from fednano.training.recorder import RunProgress
from fednano.training.tensor_files import load_tensors, save_tensors

WEIGHTS, OUTER, MEAN = "weights.safetensors", "outer.safetensors", "mean.safetensors"
INNER, STATE = "inner", "state.json"
RESTORE = "restore it"
MODEL, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
NAME = r"round_\d{6,}"  # of a checkpoint
FORMAT = 2  # of a checkpoint; 1 had no manifest
SEALED_BY = "manifest"  # the key of a model's configuration that says that its folder has a manifest


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
        config_sha256: digest of the run's configuration, from `config/recorded.py`; "": none was recorded.
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
    config_sha256: str = ""

    @property
    def saved(self) -> CheckpointSaved:
        """The event for a written checkpoint, which is named after the number of rounds done."""
        rounds = self.progress.rounds
        return CheckpointSaved(t=self.clock, round=rounds, version=self.state.version, name=f"round_{rounds:06d}")


class Checkpoints:
    """The newest `keep` checkpoints of a run.

    Each holds the global weights, the outer and inner optimizers' states, the rest of a `Snapshot` as JSON, and a
    manifest with the digests of these files. Rows count as done only once a checkpoint holds them. Whatever else lies
    in the folder is left alone.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = keep

    def save(self, snapshot: Snapshot) -> CheckpointSaved:
        """Write a checkpoint, then remove the surplus ones; a complete one exists at any moment."""
        remove_unfinished(self._folder, NAME)
        state = snapshot.state

        def fill(folder: Path) -> None:
            save_tensors(state.weights, folder / WEIGHTS)
            save_tensors(state.outer, folder / OUTER)
            save_tensors(state.inner, folder / MEAN)
            (folder / INNER).mkdir()
            for client, inner in snapshot.inner.items():
                save_tensors(inner, folder / INNER / f"{client}.safetensors")
            apart = ("state", "inner", "event_log")
            rest = {f.name: getattr(snapshot, f.name) for f in fields(Snapshot) if f.name not in apart}
            record = {**rest, "progress": asdict(snapshot.progress), "tape": asdict(snapshot.event_log)}
            write_json(folder / STATE, {"format": FORMAT, "version": state.version, **record})
            seal(folder)

        target = self._folder / snapshot.saved.name
        _make_way(target)
        write_folder(target, fill)
        self._prune(target)
        return snapshot.saved

    def _prune(self, saved: Path) -> None:
        """Remove all but the newest `keep` checkpoints up to `saved`, and those of later rounds.

        A run that had to resume from an older checkpoint has abandoned the later ones.
        """
        ours = [path for path in self._all(self._folder) if _is_ours(path)]
        upto = [path for path in ours if _number(path) <= _number(saved)]
        for old in {*ours} - {*upto[-self._keep :]}:
            _remove(old)

    def tidy(self, resumed: Snapshot) -> None:
        """Remove what a killed process left: checkpoints half written or half removed, and surplus ones.

        Those of rounds after the checkpoint that the run resumes from stay until the next one is saved.
        """
        remove_unfinished(self._folder, NAME)
        ours = [path for path in self._all(self._folder) if _is_ours(path)]
        for old in [path for path in ours if _number(path) <= resumed.progress.rounds][: -self._keep]:
            _remove(old)

    @staticmethod
    def load(folder: Path) -> Snapshot:
        """The inverse of `save`. Raises ValueError if the folder is not a checkpoint or is damaged.

        A checkpoint of an earlier version has no manifest; `is_sealed` tells.
        """
        if not (folder / STATE).is_file() and not is_sealed(folder):
            raise ValueError(f"{folder} is not a checkpoint; name a folder below checkpoints/")
        try:
            files = _checked_files(folder)
            record = read_json(folder / STATE, RESTORE)
            if record.pop("format", 1) not in (1, FORMAT):
                raise ValueError(f"{STATE} has a format of another version")
            weights, outer, mean = (load_tensors(folder / name) for name in (WEIGHTS, OUTER, MEAN))
            state = ServerState(weights=weights, outer=outer, version=record.pop("version"), inner=mean)
            inner = {Path(name).stem: load_tensors(folder / name) for name in files if Path(name).parent.name == INNER}
            record["progress"] = RunProgress.from_record(record["progress"])
            record["event_log"] = LogMark(**record.pop("tape"))
            record["up"], record["leaving"] = tuple(record["up"]), tuple(record["leaving"])
            return Snapshot(state=state, inner=inner, **record)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{folder} is a damaged checkpoint ({error}); remove it to resume from the previous one"
            ) from error

    @classmethod
    def newest(cls, folder: Path, events: Path | None = None) -> Snapshot | None:
        """The newest sound checkpoint in `folder`, None if it holds no checkpoint at all.

        A damaged one is skipped with a warning that names the file. So is one that `events`, the run's event log, does
        not lead up to. Raises ValueError if no checkpoint is sound, DamagedLogError if that is the event log's fault.
        """
        faults: list[tuple[Path, Exception]] = []
        for path in reversed(cls._all(folder)):
            try:
                snapshot = cls.load(path)
                if events:
                    require_beginning(events, snapshot.event_log)
            except (OSError, ValueError) as error:
                faults.append((path, error))
                continue
            for skipped, fault in faults:
                warn(f"skipped the checkpoint {skipped}: {_cause(fault)}")
            if not is_sealed(path):
                warn(f"{path} is of an earlier version, without digests; it cannot be verified")
            return snapshot
        if not faults:
            return None
        path, fault = faults[0]
        if isinstance(fault, DamagedLogError):
            raise fault
        raise ValueError(f"no checkpoint of the run is sound ({path}: {_cause(fault)}); restore one or start a new run")

    @classmethod
    def exist(cls, folder: Path) -> bool:
        """Whether `folder` holds checkpoints, sound or not."""
        return bool(cls._all(folder))

    @staticmethod
    def _all(folder: Path) -> list[Path]:
        """The folders in `folder` that are named like checkpoints, by round."""
        present = folder.iterdir() if folder.is_dir() else ()
        return sorted((path for path in present if re.fullmatch(NAME, path.name) and path.is_dir()), key=_number)


def is_sealed(folder: Path) -> bool:
    """Whether the folder has a manifest, intact or not."""
    return os.path.lexists(folder / MANIFEST)


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("round_"))


def _is_ours(path: Path) -> bool:
    """Whether `path`, which is named like a checkpoint, is one that a run wrote."""
    return path.is_dir() and not path.is_symlink() and (is_sealed(path) or (path / STATE).is_file())


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint; if the process is killed meanwhile, what is left is not named like one."""
    doomed = checkpoint.with_name(f".{checkpoint.name}.{os.getpid()}.old")
    with suppress(OSError):
        checkpoint.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _make_way(target: Path) -> None:
    """Rename whatever is in the place of a new checkpoint but is none."""
    if os.path.lexists(target) and not _is_ours(target):
        aside = next(
            path for i in count(1) if not os.path.lexists(path := target.with_name(f"{target.name}.moved_{i}"))
        )
        target.rename(aside)
        warn(f"{target} was in the way of a checkpoint and is now {aside.name}")


def _checked_files(folder: Path) -> list[str]:
    """The names of a checkpoint's files. Raises ValueError, which names the file, for one that is not as written."""
    inner = folder / INNER
    states = [f"{INNER}/{path.name}" for path in sorted(inner.iterdir()) if _is_state(path)] if inner.is_dir() else []
    if not is_sealed(folder):
        if "format" in json.loads((folder / STATE).read_text(encoding="utf-8")):
            raise ValueError(f"{MANIFEST} is missing")
        return states
    files = check_seal(folder)
    present = [*states, *(path.name for path in sorted(folder.iterdir()) if _is_state(path))]
    for name in present:
        if name not in files:
            raise ValueError(f"{name} is not in {MANIFEST}")
    return files


def _is_state(path: Path) -> bool:
    return path.suffix == ".safetensors" and not path.name.startswith(".")


def _cause(error: Exception) -> str:
    """What is wrong with a checkpoint, without the remedy for that alone."""
    has_own = isinstance(error.__cause__, Exception) and not isinstance(error, DamagedLogError)
    return one_line(error.__cause__ if has_own else error).partition("; ")[0]  # type: ignore[arg-type]


def save_model(folder: Path, weights: State, config: GPTConfig, save_tokenizer: Callable[[Path], None]) -> None:
    """Export a model for sampling and other tools: weights, configuration, tokenizer."""

    def fill(target: Path) -> None:
        save_tensors(weights, target / MODEL, {"format": "pt"})
        write_json(target / CONFIG, {**config.to_dict(), SEALED_BY: MANIFEST})
        save_tokenizer(target / TOKENIZER)
        seal(target)

    write_folder(folder, fill)


def load_model(folder: Path) -> GPT:
    """The model of an exported folder. Raises ValueError if it is not a model, damaged, or mixed from several."""
    for name in (MODEL, CONFIG, TOKENIZER):
        if not (folder / name).is_file():
            raise ValueError(f"model_dir={folder} has no {name}; name the model/ folder of a run")
    if is_sealed(folder):
        _check_model(folder)
    try:
        record = read_json(folder / CONFIG, RESTORE)
        if record.pop(SEALED_BY, None) and not is_sealed(folder):
            raise ValueError(f"its {MANIFEST} is missing")
        config = GPTConfig.from_dict(record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the {CONFIG} of model_dir={folder} does not describe a model ({error}); name the model/ folder of a run"
        ) from error
    state = _read_tensors(f"model_dir={folder}", folder / MODEL)
    held = sum(tensor.numel() for tensor in state.values())
    if config.layers > len(state) or config.width * max(config.width, config.vocab_size) > max(held, 1):
        raise ValueError(
            f"the {MODEL} of model_dir={folder} does not match its {CONFIG}: {held} numbers are too few for it; "
            "name a folder whose files come from one run"
        )
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


def _check_model(folder: Path) -> None:
    try:
        check_seal(folder)
    except ValueError as error:
        raise ValueError(f"model_dir={folder} is damaged ({error}); restore it or export the model again") from error


def load_tokenizer(folder: Path, model: GPT) -> Tokenizer:
    """The tokenizer of an exported folder, from which `load_model` read `model`.

    Warns of a folder without digests. Raises ValueError if the tokenizer is damaged or not that of `model`.
    """
    tokenizer = Tokenizer.load(folder / TOKENIZER)
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"the {TOKENIZER} of model_dir={folder} must have vocab_size={model.config.vocab_size} ids, as its "
            f"{CONFIG} says, got {tokenizer.vocab_size}; name a folder whose files come from one run"
        )
    if not is_sealed(folder):
        warn(f"model_dir={folder} is of an earlier version, without digests; it cannot be verified")
    return tokenizer


def _read_tensors(named: str, path: Path) -> State:
    """The tensors of a safetensors file. Raises a ValueError that begins with `named` if it cannot be read."""
    try:
        return load_tensors(path)
    except ValueError as error:
        raise ValueError(f"{named} has a damaged {path.name} ({error}); restore it or name another") from error


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
