"""Finished runs as they were recorded: a flat configuration and the figures of the summary."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fednano.config.checks import listed
from fednano.config.errors import shown
from fednano.config.moved import with_current_targets
from fednano.config.recorded import EARLIER, recorded_config
from fednano.report.sinks import flat
from fednano.report.units import DIVERGED, NOT_MEASURED

SUMMARY, CONFIG, EVENTS = "summary.json", "config.yaml", "events.jsonl"
LOSSES = ("val_bpb_initial", "val_bpb", "train_loss")  # of every run that has a model; null once they are not finite


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """One run. `config` and `figures` have flat keys, such as strategy.outer.lr and bytes.up."""

    folder: Path
    config: Mapping[str, Any]
    figures: Mapping[str, Any]

    def figure(self, key: str) -> float:
        """A finite number of the summary; NaN if it has none of that name, for the reason that `lack` gives."""
        return float(self.figures[key]) if self.lack(key) is None else math.nan

    def lack(self, key: str) -> str | None:
        """Why there is no such figure: the model diverged, or nothing measured it; None if there is one.

        A run with runtime.compute=analytic has no model, so that its losses are not measured.
        """
        value = self.figures.get(key, "")
        if _is_number(value):
            return None if math.isfinite(value) else DIVERGED
        has_model = self.figures.get("weights_sha256", "") is not None
        return DIVERGED if value is None and key in LOSSES and has_model else NOT_MEASURED


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def metrics(runs: Iterable[RecordedRun]) -> list[str]:
    """The keys of which at least one run has a figure, in the order of the summaries."""
    return list(dict.fromkeys(key for run in runs for key in run.figures if run.lack(key) is None))


def require_metric(runs: Sequence[RecordedRun], key: str) -> None:
    """Raise ValueError if there is nothing to tell about a metric: no run has such a figure, and none diverged."""
    if any(run.lack(key) != NOT_MEASURED for run in runs):
        return
    known = metrics(runs)
    if any(run.figures.get(key, "") is None for run in runs):
        names = listed([name for name in known if "." not in name], key)
        raise ValueError(
            f"--metric must be a figure that a run has measured, got {shown(key)}, which none has; use one of {names}"
        )
    raise ValueError(
        f"--metric must be a number of {SUMMARY}, got {shown(key)}; use one of {listed(known, key)}, or list all with "
        "--list"
    )


def read_run(folder: Path) -> RecordedRun:
    """Raises ValueError if the folder's files are not those of a run, OSError if they cannot be read.

    The configuration is as the current version would write it: classes by their current paths, with the groups that
    earlier versions did not have.
    """
    config, path = read_config(folder), folder / SUMMARY
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        figures = None
    if not isinstance(figures, dict):
        raise ValueError(f"{path} must hold the figures of a run, got other contents; restore it")
    return RecordedRun(folder=folder, config=config, figures=flat(figures, "."))


def read_config(folder: Path) -> dict[str, Any]:
    """The recorded configuration of a run, finished or not, with flat keys. Raises as `read_run` does."""
    recorded = recorded_config(folder)
    config = recorded | {group: choice for group, choice in EARLIER.items() if group not in recorded}
    return flat(with_current_targets(config), ".")


def find_runs(folders: Iterable[Path], unfinished: Callable[[Path], None] = lambda _: None) -> Sequence[RecordedRun]:
    """The finished runs in or below the folders, each once, in the order of their paths.

    `unfinished` is called once for each run that has not completed. Raises ValueError for a folder without any run, or
    if none has completed.
    """
    found: dict[Path, RecordedRun | None] = {}
    for folder in folders:
        runs = run_folders(folder)
        if not runs:
            missing = "" if folder.exists() else ", which does not exist"
            raise ValueError(f"RUN must be or hold the folder of a run, got {folder}{missing}; name runs or sweeps")
        for run in runs:
            if (place := run.resolve()) in found:
                continue
            recorded = read_run(run) if (run / SUMMARY).is_file() else None
            found[place] = recorded if recorded and recorded.figures.get("status") == "completed" else None
            if found[place] is None:
                unfinished(run)
    if not any(found.values()):
        raise ValueError("RUN must hold a finished run, got none; wait, or resume them")
    return [run for run in found.values() if run]


def run_folders(folder: Path) -> list[Path]:
    """The folders of runs in or below a folder, without what loggers and Hydra keep inside them."""
    found: list[Path] = []
    for path in sorted(config.parent for config in folder.rglob(CONFIG)):
        is_run = any((path / name).is_file() for name in (SUMMARY, EVENTS))
        if is_run and not (found and found[-1] in path.parents):
            found.append(path)
    return found
