"""Curves of model quality, against tokens and against what the run had cost by then."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.event_logs import volatile_run
from support.pages import Page, page_of, write_run

from fednano.core.events import Evaluated, RoundMerged
from fednano.report.history import Sample, read_history
from fednano.report.web.quality import panels, read_costs, switches


def write_metrics(folder: Path, **scale: float | None) -> Path:
    """metrics.jsonl of the run, whose n-th row has cost n of each unit times its scale."""
    rows: list[dict[str, Any]] = []
    for event in volatile_run(rounds=6):
        if isinstance(event, RoundMerged | Evaluated):
            kind = "round" if isinstance(event, RoundMerged) else "evaluation"
            n = len(rows)
            costs = {key: None if each is None else n * each for key, each in scale.items()}
            rows.append({"type": kind, "round": event.round, **costs})
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows) + '{"type": "ro')
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path, volatile_run(rounds=6))


def labels(page: Page) -> list[str]:
    return page.texts("label")


def test_a_run_with_costs_can_be_seen_against_each(folder: Path) -> None:
    write_metrics(folder, wall_run_s=10.0, energy_kwh=0.002, co2_g=5.0, bytes_up=3e6, bytes_down=4e6)
    page = page_of(folder)
    assert labels(page) == ["tokens", "virtual time", "wall time", "energy", "CO₂", "bytes"]
    names = set(page.texts("text", class_="name"))
    assert {"energy of all clients, Wh", "CO₂ of all clients, g", "sent by and to clients, MB"} <= names


def test_a_curve_is_drawn_at_the_cost_of_its_rows(folder: Path) -> None:
    write_metrics(folder, energy_kwh=1.0, bytes_up=1.0, bytes_down=1e9)
    history = read_history(folder / "events.jsonl")
    (validation, _) = panels(history, "virtual time", read_costs(folder))
    drawn = {name: chart for name, chart in validation.charts if chart}
    assert set(drawn) == {"tokens", "time", "energy", "bytes"}
    assert drawn["energy"].x_label == "energy of all clients, kWh"
    samples: list[Sample] = list(history.evals)
    assert len(drawn["energy"].dots) == len(samples)
    last = drawn["energy"]
    assert last.dots[-1].x == last.frame.x1  # the dearest is at the right edge, at its number of rows
    assert last.x_ticks[0].label == "0"


def test_what_is_not_known_is_not_offered(folder: Path) -> None:
    write_metrics(folder, energy_kwh=1.0, co2_g=None)
    assert labels(page_of(folder)) == ["tokens", "virtual time", "energy"]


def test_a_run_of_an_earlier_version_has_tokens_and_time(folder: Path) -> None:
    (folder / "metrics.jsonl").write_text('{"round": 0, "tokens": 5}\n[1]\n')
    assert labels(page_of(folder)) == ["tokens", "virtual time"]
    (folder / "metrics.jsonl").unlink()
    assert labels(page_of(folder)) == ["tokens", "virtual time"]


def test_switches_keep_their_order() -> None:
    assert switches([], "run time") == [("tokens", "tokens"), ("time", "run time")]
