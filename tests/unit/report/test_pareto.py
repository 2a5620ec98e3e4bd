"""The Pareto front of a comparison: which groups are on it, and how it is shown."""

import json
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import BboxBase

from fednano import compare
from fednano.report.comparison.groups import Group
from fednano.report.comparison.pareto import front, spread
from fednano.report.comparison.runs import RecordedRun


def group(name: str, **figures: float | None) -> Group:
    run = RecordedRun(folder=Path(), config={"strategy.name": name}, figures=figures)
    return Group(label={"strategy.name": name}, runs={"1": run})


def names(groups: list[Group]) -> list[str]:
    return [group.name for group in groups]


def test_a_group_that_another_beats_in_one_figure_and_equals_in_the_other_is_not_on_the_front() -> None:
    cheap, good = group("cheap", bpb=3.0, kwh=1.0), group("good", bpb=2.0, kwh=5.0)
    dearer, worse = group("dearer", bpb=2.0, kwh=6.0), group("worse", bpb=3.5, kwh=1.0)
    between, beaten = group("between", bpb=2.5, kwh=2.0), group("beaten", bpb=2.6, kwh=2.5)
    assert names(front([good, dearer, worse, beaten, between, cheap], "bpb", "kwh")) == ["cheap", "between", "good"]


def test_equal_groups_are_both_on_the_front() -> None:
    one, two = group("one", bpb=2.0, kwh=1.0), group("two", bpb=2.0, kwh=1.0)
    assert names(front([one, two], "bpb", "kwh")) == ["one", "two"]


def test_groups_without_a_figure_have_no_part() -> None:
    known, lacks = group("known", bpb=3.0, kwh=4.0), group("lacks", bpb=2.0, kwh=None)
    assert names(front([known, lacks, group("none")], "bpb", "kwh")) == ["known"]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two strategies of which one costs more and is better, and a third that is neither."""
    for strategy, bpb, sent in (("diloco", 2.0, 5e8), ("fedavg", 2.5, 1e6), ("krum", 2.6, 6e8)):
        for seed in (1, 2):
            folder = tmp_path / f"{strategy}{seed}"
            folder.mkdir()
            (folder / "events.jsonl").touch()
            (folder / "config.yaml").write_text(yaml.safe_dump({"strategy": {"name": strategy}, "seed": seed}))
            summary = {"status": "completed", "val_bpb": bpb, "bytes": {"up": sent}}
            (folder / "summary.json").write_text(json.dumps(summary))
    return tmp_path


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["compare", *words])
    return compare.main()


def test_the_front_is_printed_and_written(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table, picture = runs / "front.csv", runs / "front.svg"
    assert command(monkeypatch, str(runs), "--pareto", "bytes.up", "--out", str(table), "--out", str(picture)) == 0
    marked = {line.split()[0]: line.split()[-1] for line in capsys.readouterr().out.splitlines() if "M " in line}
    assert marked == {"diloco": "yes", "fedavg": "yes", "krum": "0"}
    written = pd.read_csv(table).set_index("strategy.name")
    assert written["front of bytes.up"].to_dict() == {"diloco": True, "fedavg": True, "krum": False}
    assert all(f">{name}<" in picture.read_text() for name in ("diloco", "fedavg", "krum", "bytes from clients"))


def test_no_label_lies_on_another() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    labels = [axes.annotate(f"a group {k}", (0.3, 0.5), (6, 4), textcoords="offset points") for k in range(6)]
    figure.draw_without_rendering()
    assert boxes(labels)[0].overlaps(boxes(labels)[1])
    spread(labels)
    assert not any(one.overlaps(other) for one, other in combinations(boxes(labels), 2))


def boxes(labels: list[Annotation]) -> list[BboxBase]:
    return [Text.get_window_extent(label) for label in labels]


def test_a_cost_that_no_run_has_is_refused(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="energy_kwh"):
        command(monkeypatch, str(runs), "--pareto", "energy_kwh")
