"""Reopening of the folder of a run, or of a sweep, to resume it."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fednano.config.build import plain
from fednano.config.compose import SEARCH_PATH, compose_config
from fednano.config.hydra.node import OWN, SWEEP_FOLDER
from fednano.config.quoting import quoted, quoted_overrides, value_in
from fednano.config.recorded import EARLIER, check_recorded, recorded_sha256
from fednano.core.event_log import EventLog
from fednano.core.files import read_json, reading
from fednano.experiment.sweep import INTERRUPTED, JobState, SweepRecord
from fednano.training.checkpoint import Checkpoints, Snapshot

SWEEP_RESUME, LAUNCHER = "sweep.resume", "hydra/launcher"
FREE = ("checkpoint_keep", "logger")  # keys that may change when a run is resumed


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
    if (folder / SWEEP_FOLDER).is_dir() and not (folder / "config.yaml").exists():
        raise ValueError(f"resume must name the folder of one run, got a sweep's, {named}; use sweep.resume={named}")
    for name in ("events.jsonl", "metrics.jsonl"):  # which resuming cuts back to the checkpoint
        if (folder / name).is_dir():
            raise ValueError(f"{folder / name} must be a file, got a folder; remove it or restore the file")
    cfg = recorded_config(folder, f"resume={folder}")
    if changing:
        raise ValueError(f"{changing[0]} would change the run that resume={folder} continues; leave it out")
    for key in {_key(override).partition(".")[0] for override in overrides}:
        if key in FREE:
            OmegaConf.update(cfg, key, given[key], merge=False)
    run = _reopened(folder, cfg)
    if run.snapshot is None and not run.completed:
        raise ValueError(f"resume={folder} has no checkpoint, since the run ended before its first; start a new run")
    return run


def reopen_job(folder: Path, given: DictConfig) -> Reopened:
    """The run in the folder of a sweep's job that was begun before; `given` is the job's configuration as of now.

    Without a snapshot, the run ended before its first checkpoint. Raises ValueError as `reopen` does.
    """
    if not (folder / "config.yaml").is_file():
        return Reopened(folder, given, None, completed=False)
    cfg = recorded_config(folder, str(folder))
    for key in FREE:
        OmegaConf.update(cfg, key, given[key], merge=False)
    return _reopened(folder, cfg)


def clear(folder: Path) -> None:
    """Remove what a run without a checkpoint left in the folder of a sweep's job, which is started again.

    Raises InUseError if another process still runs it.
    """
    EventLog(folder / "events.jsonl").close()
    for name in OWN:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _reopened(folder: Path, cfg: DictConfig) -> Reopened:
    if _completed(folder):
        return Reopened(folder, cfg, None, completed=True)
    snapshot = Checkpoints.newest(folder / "checkpoints", folder / "events.jsonl")
    if snapshot and snapshot.config_sha256 not in ("", recorded_sha256(folder)):
        raise ValueError(f"resume={folder} must have the config.yaml that the run began with, got another; restore it")
    return Reopened(folder, cfg, snapshot, completed=False)


def reopen_sweep(overrides: Sequence[str], config_dir: str | None = None) -> tuple[SweepRecord, list[str]]:
    """The record of the sweep that the override `sweep.resume=FOLDER` names, and the overrides to continue it with.

    They are those recorded in the folder. On the command line may be the same, and others that cannot change a result:
    `checkpoint_keep`, the logger and the launcher.

    Raises:
        ValueError: another override, a folder that holds no sweep, or no `config_dir` (--config-dir) although the sweep
            was begun with one; it is not taken from the record, since its files may name modules to import.
    """
    (*_, named) = (override for override in overrides if _key(override) == SWEEP_RESUME)
    if not (value := str(value_in(named) or "")):
        raise ValueError("sweep.resume must name the folder of a sweep, got nothing; name one, or leave the key out")
    record = SweepRecord(Path(value).absolute())
    asked = record.asked() if record.is_recorded() else _asked_earlier(Path(value))
    place = asked.get("directory")
    if place and Path(place).is_dir() and not Path(place).samefile(Path.cwd()):
        raise ValueError(
            f"sweep.resume={value} must be given where the sweep began, {place}, got {Path.cwd()}; change to it with cd"
        )
    if (began_with := asked.get("config_dir")) and config_dir is None:
        raise ValueError(
            f"sweep.resume={value} must be given with --config-dir, as it began; add --config-dir {began_with}"
        )
    known = set(quoted_overrides([*asked["overrides"], *asked.get("typed", ()), "hydra.mode=MULTIRUN"]))
    new = [word for word in quoted_overrides(overrides) if word not in known and _key(word) != SWEEP_RESUME]
    for word in new:
        if not _harmless(_key(word)) and _key(word) != LAUNCHER and not _key(word).startswith("hydra.launcher."):
            raise ValueError(f"{word} would change the sweep that sweep.resume={value} continues; leave it out")
    replaced = {"hydra.sweep.dir", *map(_key, new)}
    kept = [word for word in asked["overrides"] if _key(word) not in replaced]
    if LAUNCHER in replaced:  # the settings of another launcher
        kept = [word for word in kept if not _key(word).startswith("hydra.launcher.")]
    return record, [*kept, *new, f"hydra.sweep.dir={quoted(str(record.folder))}"]


def _asked_earlier(folder: Path) -> dict[str, Any]:
    """What was asked for by a sweep that has no record of its own, by Hydra's. Raises ValueError without one."""
    path = folder / "multirun.yaml"
    if not path.is_file():
        raise ValueError(
            f"sweep.resume={folder} has no {SWEEP_FOLDER}/sweep.json; give the folder of a sweep, such as "
            "outputs/NAME/DATE_TIME"
        )
    with reading(path, "restore it"):
        held: Any = OmegaConf.to_container(OmegaConf.load(path))
        given = held["hydra"]["overrides"]
        return {"overrides": [*given["hydra"], *given["task"]]}


def adopt(record: SweepRecord, jobs: Sequence[tuple[Path, Sequence[str]]]) -> None:
    """Record the jobs of an earlier version's sweep: folders that Hydra gave the same overrides."""
    for number, (folder, words) in enumerate(jobs):
        path = folder / ".hydra" / "overrides.yaml"
        if record.state(number) or not path.is_file():
            continue
        if OmegaConf.to_container(OmegaConf.load(path)) == list(words):
            place = os.path.relpath(folder, record.folder)
            record.write(JobState(job=number, overrides=tuple(words), folder=place, status=INTERRUPTED))


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _harmless(key: str) -> bool:
    """Whether a key cannot change the result of a run that is resumed."""
    return key in ("resume", SEARCH_PATH) or key.partition(".")[0] in FREE


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
