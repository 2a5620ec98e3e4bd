"""Reopening of a run's folder to resume the run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError  # type: ignore[import-untyped]

from fednano.config.compose import compose_config
from fednano.config.recorded import check_recorded
from fednano.training.checkpoint import Checkpoints, Snapshot


@dataclass(frozen=True)
class Reopened:
    """A run started in `folder` with `cfg`, and its newest checkpoint; if `completed`, nothing is left to do."""

    folder: Path
    cfg: DictConfig
    snapshot: Snapshot | None
    completed: bool


def reopen(overrides: Sequence[str]) -> Reopened:
    """The run that the override `resume=FOLDER` names. Writes nothing.

    The configuration is the one recorded in the folder. Besides `resume`, only overrides that cannot change the result
    are allowed: `checkpoint_keep` and the logger. `rounds` is not one of them, since the learning-rate schedule ends
    with the last round.

    Raises:
        ValueError: another override, a folder that holds no run, or a missing or damaged checkpoint.
    """
    given = compose_config(overrides)
    folder = Path(str(given.resume))
    cfg = recorded_config(folder, f"resume={folder}")
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key == "checkpoint_keep" or key.partition(".")[0] == "logger":
            OmegaConf.update(cfg, key.partition(".")[0], given[key.partition(".")[0]], merge=False)
        elif key != "resume":
            raise ValueError(f"{override} would change the run that resume={folder} continues; leave it out")
    if _completed(folder):
        return Reopened(folder, cfg, None, completed=True)
    snapshot = Checkpoints.newest(folder / "checkpoints")
    if snapshot is None:
        raise ValueError(f"resume={folder} has no checkpoint, since the run ended before its first; start a new run")
    return Reopened(folder, cfg, snapshot, completed=False)


def recorded_config(folder: Path, given: str) -> DictConfig:
    """The configuration recorded in a run's folder, which the user gave as `given`.

    Raises ValueError without one, or if it names classes that are not allowed: the folder may be somebody else's.
    """
    for name in ("config.yaml", "events.jsonl"):
        if not (folder / name).is_file():
            raise ValueError(f"{given} has no {name}; give the folder of a run, such as outputs/NAME/DATE_TIME")
    try:
        cfg = OmegaConf.load(folder / "config.yaml")
    except YAMLError as error:
        raise ValueError(f"{given}: config.yaml is damaged ({error}); restore it") from error
    if not isinstance(cfg, DictConfig):
        raise ValueError(f"{given}: config.yaml has no keys; restore it")
    check_recorded(cfg, given)
    return cfg


def _completed(folder: Path) -> bool:
    summary = folder / "summary.json"
    return summary.exists() and json.loads(summary.read_text(encoding="utf-8")).get("status") == "completed"
