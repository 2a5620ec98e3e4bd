"""The rows of metrics and the files that hold them: costs so far stand beside losses."""

import csv
import json
import math
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.event_logs import volatile_run

from fednano.core.events import Evaluated, Event, RoundMerged, UpdateFolded, UpdateRefused, WorkDispatched
from fednano.report.metrics import COLUMNS, EVALUATION, ROUND, MetricRows, MetricsFile, MetricsTable
from fednano.report.sinks import Fanout


def told(events: list[Event], *takers: Any) -> Fanout:
    """The sinks after these events, not closed yet; each event costs a kWh."""
    heard = [0]

    def totals() -> dict[str, float | None]:
        return {"energy_kwh": float(heard[0]), "co2_g": None}

    fan = Fanout([MetricRows(totals, takers), *takers])
    for event in events:
        heard[0] += 1
        fan.event(event)
    return fan


class Taker:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def log_metrics(self, row: dict[str, Any]) -> None:
        self.rows.append(dict(row))
        row.clear()  # its own

    def event(self, event: Event) -> None:
        pass


def test_the_metrics_file_has_a_line_per_round_and_evaluation(tmp_path: Path) -> None:
    events = volatile_run(rounds=4)
    merged = [event for event in events if isinstance(event, RoundMerged)]
    events[events.index(merged[1])] = replace(merged[1], train_loss=math.nan)
    told(events, Taker(), MetricsFile(tmp_path / "metrics.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]  # before the close
    rounds = [row for row in rows if row["type"] == ROUND]
    evaluations = [row for row in rows if row["type"] == EVALUATION]
    assert rows == [row for row in rows if row in rounds or row in evaluations]
    assert [r["tokens"] for r in rounds] == [e.tokens_total for e in merged]
    assert [r["train_loss"] for r in rounds] == [merged[0].train_loss, None, *(e.train_loss for e in merged[2:])]
    assert [r["merges"] for r in rounds] == list(range(1, len(merged) + 1))
    assert [r["val_bpb"] for r in evaluations] == [e.val_bpb for e in events if isinstance(e, Evaluated)]


def test_a_row_has_the_costs_so_far() -> None:
    events, taker = volatile_run(rounds=12), Taker()
    told(events, taker)
    at = [k for k, event in enumerate(events) if isinstance(event, RoundMerged | Evaluated)]
    assert [row["energy_kwh"] for row in taker.rows] == [k + 1.0 for k in at]
    assert {row["co2_g"] for row in taker.rows} == {None}
    up = list(accumulate(e.bytes if isinstance(e, UpdateFolded | UpdateRefused) else 0 for e in events))
    down = list(accumulate(e.bytes if isinstance(e, WorkDispatched) else 0 for e in events))
    assert [(row["bytes_up"], row["bytes_down"]) for row in taker.rows] == [(up[k], down[k]) for k in at]
    assert 0 < taker.rows[-1]["bytes_up"] < taker.rows[-1]["bytes_down"]


def test_the_wall_time_is_that_of_the_run_or_of_its_parts_in_older_logs() -> None:
    events = volatile_run(rounds=4)
    timed = [e for e in events if isinstance(e, RoundMerged | Evaluated)]
    older, newer = Taker(), Taker()
    told(events, older)
    assert [row["wall_run_s"] for row in older.rows] == pytest.approx(list(accumulate(e.wall_s for e in timed)))
    told([replace(e, wall_run_s=100.0 + e.t) if e in timed else e for e in events], newer)
    assert [row["wall_run_s"] for row in newer.rows] == [100.0 + e.t for e in timed]


def test_the_table_has_the_same_rows_in_columns_that_never_change(tmp_path: Path) -> None:
    taker = Taker()
    told(volatile_run(rounds=4), taker, MetricsTable(tmp_path / "metrics.csv"))
    with (tmp_path / "metrics.csv").open(newline="") as file:  # before the close
        table = csv.DictReader(file)
        rows = list(table)
        assert tuple(table.fieldnames or ()) == COLUMNS
    assert set(COLUMNS) == set().union(*taker.rows)
    assert [{key: cell for key, cell in row.items() if cell} for row in rows] == [
        {key: str(value) for key, value in row.items() if value is not None} for row in taker.rows
    ]
