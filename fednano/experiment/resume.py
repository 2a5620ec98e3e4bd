"""Reopening of a run's folder to resume the run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from fednano.config.build import plain
from fednano.config.compose import SEARCH_PATH, compose_config
from fednano.config.recorded import EARLIER, check_recorded, recorded_sha256
from fednano.core.files import read_json, reading
from fednano.training.checkpoint import Checkpoints, Snapshot


@dataclass(frozen=True)
class Reopened:
    """A run started in `folder` with `cfg`, and its newest sound checkpoint; if `completed`, nothing is left to do."""

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
        ValueError: another override, a folder that holds no run, a changed configuration, or no sound checkpoint.
    """
    changing = [override for override in overrides if not _harmless(_key(override))]
    # What is refused below may name keys that only the recorded configuration has.
    given = compose_config([override for override in overrides if override not in changing])
    if not (named := str(plain(given, "resume"))):
        raise ValueError("resume must name the folder of a run, got nothing; name one, or leave the key out")
    folder = Path(named)
    for name in ("events.jsonl", "metrics.jsonl"):  # which resuming cuts back to the checkpoint
        if (folder / name).is_dir():
            raise ValueError(f"{folder / name} must be a file, got a folder; remove it or restore the file")
    cfg = recorded_config(folder, f"resume={folder}")
    if changing:
        raise ValueError(f"{changing[0]} would change the run that resume={folder} continues; leave it out")
    for key in {_key(override).partition(".")[0] for override in overrides}:
        if key in ("checkpoint_keep", "logger"):
            OmegaConf.update(cfg, key, given[key], merge=False)
    if _completed(folder):
        return Reopened(folder, cfg, None, completed=True)
    snapshot = Checkpoints.newest(folder / "checkpoints", folder / "events.jsonl")
    if snapshot is None:
        raise ValueError(f"resume={folder} has no checkpoint, since the run ended before its first; start a new run")
    if snapshot.config_sha256 not in ("", recorded_sha256(folder)):
        raise ValueError(f"resume={folder} must have the config.yaml that the run began with, got another; restore it")
    return Reopened(folder, cfg, snapshot, completed=False)


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _harmless(key: str) -> bool:
    """Whether a key cannot change the result of a run that is resumed."""
    return key in ("resume", "checkpoint_keep", SEARCH_PATH) or key.partition(".")[0] == "logger"


def recorded_config(folder: Path, given: str) -> DictConfig:
    """The configuration recorded in a run's folder, which the user gave as `given`.

    Raises ValueError without one, or if it names classes that are not allowed: the folder may be somebody else's.
    """
    for name in ("config.yaml", "events.jsonl"):
        if not (folder / name).is_file():
            raise ValueError(f"{given} has no {name}; give the folder of a run, such as outputs/NAME/DATE_TIME")
    with reading(folder / "config.yaml", "restore it"):
        cfg = OmegaConf.load(folder / "config.yaml")
    if not isinstance(cfg, DictConfig):
        raise ValueError(f"{given}: config.yaml has no keys; restore it")
    for group, choice in EARLIER.items():
        if group not in cfg:
            cfg[group] = choice
    check_recorded(cfg, given)
    return cfg


def _completed(folder: Path) -> bool:
    summary = folder / "summary.json"
    try:
        return summary.exists() and read_json(summary, "remove it").get("status") == "completed"
    except ValueError:
        return False  # damaged: the end of the run is played again from its last checkpoint
