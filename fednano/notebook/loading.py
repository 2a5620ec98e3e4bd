"""The files of run folders as pandas tables."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from fednano.core.event_log import read_whole
from fednano.report.comparison.apart import telling
from fednano.report.comparison.defaults import with_defaults
from fednano.report.comparison.runs import EVENTS, SUMMARY, RecordedRun, read_config, read_run, run_folders
from fednano.report.comparison.table import headings
from fednano.report.metrics import EVALUATION, ROUND, read_rows

SHOWN = ("val_bpb", "tokens")  # figures that stand for a run
MOST = 60  # runs that are shown


@dataclass(frozen=True, kw_only=True)
class LoadedRun:
    """One run, finished or not. Files are read when they are asked for first.

    Args:
        folder: the run folder.
        config: the resolved configuration with flat keys: `config["strategy.outer.lr"]`.
    """

    folder: Path
    config: Mapping[str, Any]
    _figures: Mapping[str, Any]

    @property
    def status(self) -> str:
        """`completed`, `interrupted` or `failed`; `unfinished` for a run that has no summary yet."""
        return str(self._figures.get("status", "unfinished"))

    @cached_property
    def summary(self) -> pd.Series:
        """The figures of `summary.json` by flat keys, such as `bytes.up`; empty without the file."""
        return pd.Series(dict(self._figures), dtype=object, name=self.folder.name)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """The rows of `metrics.jsonl` in order; `type` is round or evaluation. Figures that a row lacks are NaN."""
        return _table(self._rows, "type")

    @property
    def rounds(self) -> pd.DataFrame:
        """The rows of merged rounds, or merges, of `metrics`."""
        return self._of(ROUND)

    @property
    def evaluations(self) -> pd.DataFrame:
        """The rows of evaluations of `metrics`."""
        return self._of(EVALUATION)

    @cached_property
    def events(self) -> pd.DataFrame:
        """The event log: a row for each event, a column for each field that any event has; `event` is its type."""
        path = self.folder / EVENTS
        return _table([event for event in read_whole(path, dict) if event] if path.is_file() else [], "event")

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return read_rows(self.folder)

    def _of(self, kind: str) -> pd.DataFrame:
        return _table([row for row in self._rows if row["type"] == kind], "type")

    def __repr__(self) -> str:
        figures = {name: self._figures.get(name) for name in SHOWN}
        told = [f"{name}={value if isinstance(value, int) else f'{value:.5g}'}"
                for name, value in figures.items() if isinstance(value, int | float)]  # fmt: skip
        return f"<LoadedRun {self.folder}: {', '.join([self.status, *told])}>"

    def _repr_html_(self) -> str:
        shown: str = self.summary.to_frame().to_html()
        return shown


@dataclass(frozen=True, kw_only=True)
class LoadedRuns(Sequence[LoadedRun]):
    """Several runs, and their tables one below the other.

    Every table begins with `run`, the folder, and with a column for each configuration key that tells the runs apart,
    under its shortest name: strategy, codec, lr, seed.
    """

    runs: Sequence[LoadedRun]

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, index: Any) -> Any:
        return LoadedRuns(runs=self.runs[index]) if isinstance(index, slice) else self.runs[index]

    def __iter__(self) -> Iterator[LoadedRun]:
        return iter(self.runs)

    @cached_property
    def labels(self) -> pd.DataFrame:
        """A row for each run: its folder, and the keys that tell the runs apart."""
        recorded, _ = with_defaults(
            [RecordedRun(folder=run.folder, config=run.config, figures={}) for run in self.runs]
        )
        keys = [*telling(recorded, over="seed"), "seed"]
        rows = [{key: _plain(run.config.get(key)) for key in keys} for run in recorded]
        table = pd.DataFrame(rows, columns=keys)
        table.columns = pd.Index(headings(keys))
        table.insert(0, "run", [str(run.folder) for run in self.runs])
        return table

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row for each run: its labels, then the figures of its `summary.json`."""
        figures = pd.DataFrame([run.summary.to_dict() | {"status": run.status} for run in self.runs])
        rest = [name for name in figures.columns if name not in self.labels.columns]
        return pd.concat([self.labels, figures[rest]], axis="columns").infer_objects()

    @cached_property
    def metrics(self) -> pd.DataFrame:
        return self._joined([run.metrics for run in self.runs])

    @cached_property
    def rounds(self) -> pd.DataFrame:
        return self._joined([run.rounds for run in self.runs])

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        return self._joined([run.evaluations for run in self.runs])

    @cached_property
    def events(self) -> pd.DataFrame:
        return self._joined([run.events for run in self.runs])

    def _joined(self, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
        labelled = []
        for (_, label), table in zip(self.labels.iterrows(), tables, strict=True):
            rest = table[[name for name in table.columns if name not in label.index]]
            front = pd.DataFrame([label.to_dict()] * len(table), index=table.index, columns=label.index)
            labelled.append(pd.concat([front, rest], axis="columns"))
        filled = [table for table in labelled if len(table)]
        return pd.concat(filled or labelled[:1], ignore_index=True)

    def __repr__(self) -> str:
        """The labels of each run, whether it has ended, and its loss."""
        shown = [name for name in ("status", *SHOWN) if name in self.summary.columns]
        table: str = pd.concat([self.labels, self.summary[shown]], axis="columns").to_string(index=False, max_rows=MOST)
        return f"<LoadedRuns: {len(self)}>\n{table}"

    def _repr_html_(self) -> str:
        shown: str = self.summary.to_html(index=False)
        return shown


def load_run(folder: str | Path) -> LoadedRun:
    """One run, finished or not. Raises ValueError if the folder is not that of a run."""
    path = Path(folder)
    if run_folders(path) != [path]:
        raise ValueError(f"load_run must be given the folder of a run, got {folder}; for several, use load_runs")
    return _loaded(path)


def load_runs(*places: str | Path) -> LoadedRuns:
    """The runs in or below folders, which may be glob patterns: `load_runs("outputs/strategies/*")`.

    Each run is taken once, in the order of the paths. Raises ValueError if a place holds no run.
    """
    found: dict[Path, Path] = {}
    for place in places:
        runs = [run for folder in _folders(Path(place).expanduser()) for run in run_folders(folder)]
        if not runs:
            raise ValueError(f"load_runs must be given folders that are or hold runs, got {place}; name others")
        for run in runs:
            found.setdefault(run.resolve(), run)
    if not found:
        raise ValueError("load_runs must be given at least one folder, got none; name one")
    return LoadedRuns(runs=[_loaded(run) for run in found.values()])


def _folders(pattern: Path) -> Sequence[Path]:
    """The folders that a glob pattern matches, in order; the pattern itself if it is a folder or matches none."""
    if pattern.exists():
        return [pattern]
    return sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))) or [pattern]


def _loaded(folder: Path) -> LoadedRun:
    if (folder / SUMMARY).is_file():
        recorded = read_run(folder)
        return LoadedRun(folder=folder, config=recorded.config, _figures=recorded.figures)
    return LoadedRun(folder=folder, config=read_config(folder), _figures={})


def _table(rows: Sequence[Mapping[str, Any]], first: str) -> pd.DataFrame:
    """The rows as a table; without any, one of no rows that has at least the column `first`."""
    return pd.DataFrame(rows, columns=None if rows else [first])


def _plain(value: Any) -> Any:
    """A value that can be grouped by: a list as text."""
    return json.dumps(value) if isinstance(value, list | dict) else value
