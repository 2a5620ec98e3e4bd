"""Finished runs as they were recorded: a flat configuration and the figures of the summary."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fednano.config.recorded import recorded_config
from fednano.report.sinks import flat

SUMMARY, CONFIG = "summary.json", "config.yaml"


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """One run. `config` and `figures` have flat keys, such as strategy.outer.lr and bytes.up."""

    folder: Path
    config: Mapping[str, Any]
    figures: Mapping[str, Any]

    def figure(self, key: str) -> float:
        """A number of the summary; NaN if it is null, as the loss of a model that diverged is.

        Raises ValueError if the summary has no such number.
        """
        value = self.figures.get(key, "")
        if value is None:
            return math.nan
        if not _is_number(value):
            numbers = sorted(name for name, found in self.figures.items() if _is_number(found))
            raise ValueError(
                f"--metric must be a number of {SUMMARY}, got {key} in {self.folder}; use one of {', '.join(numbers)}"
            )
        return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_run(folder: Path) -> RecordedRun:
    """Raises ValueError if the folder's files are not those of a run, OSError if they cannot be read."""
    config, path = recorded_config(folder), folder / SUMMARY
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        figures = None
    if not isinstance(figures, dict):
        raise ValueError(f"{path} must hold the figures of a run, got other contents; restore it")
    return RecordedRun(folder=folder, config=flat(config, "."), figures=flat(figures, "."))


def find_runs(folders: Iterable[Path], unfinished: Callable[[Path], None] = lambda _: None) -> Sequence[RecordedRun]:
    """The finished runs in or below the folders, each once, in the order of their paths.

    `unfinished` is called for each run that has not completed. Raises ValueError for a folder without any run, or if
    none has completed.
    """
    found: dict[Path, RecordedRun] = {}
    for folder in folders:
        runs = sorted(path.parent for path in folder.rglob(CONFIG) if path.parent.name != ".hydra")
        if not runs:
            raise ValueError(f"RUN must be or hold the folder of a run, got {folder}; name runs or sweeps")
        for run in runs:
            recorded = read_run(run) if (run / SUMMARY).is_file() else None
            if recorded is None or recorded.figures.get("status") != "completed":
                unfinished(run)
            else:
                found[run.resolve()] = recorded
    if not found:
        raise ValueError("RUN must hold a finished run, got none; wait, or resume them")
    return list(found.values())
