"""Metrics: a row of figures for each merged round and each evaluation, and the files that hold the rows.

A row has the run's cumulative costs beside the figures of its event, so that loss can be drawn against tokens, seconds,
energy, carbon or bytes from the rows alone.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fednano.core.event_log import read_whole
from fednano.core.events import (
    Evaluated,
    Event,
    RoundMerged,
    UpdateFolded,
    UpdateRefused,
    WorkDispatched,
    finite,
)
from fednano.core.failures import naming
from fednano.core.inner_step import InnerStep
from fednano.report.sinks import Energy, Sink

MetricsRow = dict[str, Any]
Totals = Callable[[], Mapping[str, float | None]]
"""The run's energy and carbon so far: `energy_kwh` and `co2_g` (None: unknown)."""

METRICS = "metrics.jsonl"
ROUND, EVALUATION = "round", "evaluation"  # types of rows
COLUMNS = ("type", "round", "t", "merges", "tokens", "round_tokens", "steps", "updates", "train_loss", "val_loss",
           "val_bpb", "lr_scale", "norm", "energy_kwh", "co2_g", "bytes_up", "bytes_down", "wall_run_s", "wall_s",
           "wall_train_s", "wall_data_s")  # fmt: skip


class MetricRows:
    """A `Sink` that gives the row of a merged round or an evaluation to those that take rows.

    `merges`, `tokens`, `energy_kwh`, `co2_g`, `bytes_up`, `bytes_down` and `wall_run_s` are the run's totals so far;
    `t` is in seconds on the run's clock.

    Args:
        totals: the run's energy and carbon up to the last event.
        takers: whatever has a method `log_metrics`, which gets each row, a new dictionary.
    """

    hears = (WorkDispatched, UpdateFolded, UpdateRefused, RoundMerged, Evaluated)

    def __init__(self, totals: Totals, takers: Sequence[Any]) -> None:
        self._totals = totals
        self._takers = [taker.log_metrics for taker in takers if callable(getattr(taker, "log_metrics", None))]
        self._bytes_up, self._bytes_down = 0, 0
        self._wall_s = 0.0

    def event(self, event: Event) -> None:
        match event:
            case WorkDispatched():
                self._bytes_down += event.bytes
            case UpdateFolded() | UpdateRefused():
                self._bytes_up += event.bytes
            case RoundMerged() | Evaluated():
                row = {**_figures(event), **self._costs(event)}
                for take in self._takers:
                    take({key: finite(value) for key, value in row.items()})

    def step(self, step: InnerStep) -> None:
        pass

    def close(self, summary: dict[str, Any]) -> None:
        pass

    def _costs(self, event: RoundMerged | Evaluated) -> MetricsRow:
        # Event logs of earlier versions have the seconds of each round and evaluation only.
        self._wall_s = event.wall_run_s or self._wall_s + event.wall_s
        counted = {"bytes_up": self._bytes_up, "bytes_down": self._bytes_down, "wall_run_s": self._wall_s}
        return {**self._totals(), **counted}


def _figures(event: RoundMerged | Evaluated) -> MetricsRow:
    """The figures of an event itself."""
    row: MetricsRow = {"round": event.round, "t": event.t, "merges": event.version, "tokens": event.tokens_total}
    if isinstance(event, Evaluated):
        return {
            "type": EVALUATION,
            **row,
            "val_bpb": event.val_bpb,
            "val_loss": event.val_loss,
            "wall_s": event.wall_s,
        }
    return {
        "type": ROUND,
        **row,
        "round_tokens": event.tokens,
        "steps": event.steps,
        "updates": len(event.leases),
        "train_loss": event.train_loss,
        "lr_scale": event.lr_scale,
        "norm": event.norm,
        "wall_s": event.wall_s,
        "wall_train_s": event.wall_train_s,
        "wall_data_s": event.wall_data_s,
    }


def read_rows(folder: Path) -> list[MetricsRow]:
    """The rows of `metrics.jsonl` in a run folder, each with its type, without a last line that is half written.

    A folder without the file has none.

    Raises DamagedLogError naming a line that is no row.
    """
    path = folder / METRICS
    return [row for row in read_whole(path, _typed) if row] if path.is_file() else []


def _typed(row: MetricsRow) -> MetricsRow:
    """A row with the type that those of earlier versions lack."""
    return {"type": EVALUATION if "val_bpb" in row else ROUND, **row}


class MetricsFile:
    """`metrics.jsonl`: one JSON object per merged round and per evaluation, flushed per line."""

    hears = ()

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w", encoding="utf-8")

    def event(self, event: Event) -> None:
        pass

    def step(self, step: InnerStep) -> None:
        pass

    def log_metrics(self, row: MetricsRow) -> None:
        with naming(self._path):
            self._file.write(json.dumps(row, allow_nan=False) + "\n")
            self._file.flush()

    def close(self, summary: dict[str, Any]) -> None:
        self._file.close()


class MetricsTable:
    """`metrics.csv`: the same rows as one table, whose columns are always all of `COLUMNS`, flushed per line."""

    hears = ()

    def __init__(self, path: Path) -> None:
        self._path = path
        with naming(path):
            self._file = path.open("w", encoding="utf-8", newline="")
            self._table = csv.DictWriter(self._file, COLUMNS, restval="", lineterminator="\n")
            self._table.writeheader()
            self._file.flush()

    def event(self, event: Event) -> None:
        pass

    def step(self, step: InnerStep) -> None:
        pass

    def log_metrics(self, row: MetricsRow) -> None:
        with naming(self._path):
            self._table.writerow(row)
            self._file.flush()

    def close(self, summary: dict[str, Any]) -> None:
        self._file.close()


@dataclass(frozen=True)
class Csv:
    """`logger=csv`: a `MetricsTable`."""

    def open(self, folder: Path, config: dict[str, Any], energy: Energy) -> list[Sink]:
        return [MetricsTable(folder / "metrics.csv")]
