"""Runs side by side: grouping by configuration, spreads and paired differences, tables and pictures."""

import io
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from rich.console import Console

from fednano import compare
from fednano.report.comparison.figure import edge
from fednano.report.comparison.groups import Estimate, Facet, Group, grouped, unnamed
from fednano.report.comparison.runs import RecordedRun, find_runs
from fednano.report.comparison.table import _percent, headings, shown

Record = Callable[..., Path]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Writes the files of a run: `record("fedavg", seed, bpb)`."""

    def write(strategy: str, seed: int, bpb: float | None, codec: str = "fp32", **more: Any) -> Path:
        folder = tmp_path / "sweep" / str(len(list((tmp_path / "sweep").glob("*"))))
        folder.mkdir(parents=True)
        config = {
            "codec": {"name": codec},
            "strategy": {"name": strategy, "outer": {"_target_": f"fednano.outer.{strategy.title()}", "lr": 1.0}},
            "data": {"sources": ["a", "b"]},
            "seed": seed,
            "noise": {"seed": seed},
            "name": f"job{seed}",
        } | more
        (folder / "events.jsonl").touch()
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        (folder / "summary.json").write_text(json.dumps({"val_bpb": bpb, "bytes": {"up": 100}, "status": "completed"}))
        return folder

    return write


@pytest.fixture
def sweep(record: Record, tmp_path: Path) -> Path:
    for seed, base in ((1, 2.0), (2, 2.2)):
        record("fedavg", seed, base)
        record("fedadam", seed, base * 1.1)
        record("fedavg", seed, base * (1.01 if seed == 1 else 1.03), codec="int4")
    return tmp_path / "sweep"


def named(groups: list[Group]) -> dict[str, Group]:
    return {group.name: group for group in groups}


def test_groups_are_told_apart_by_as_few_keys_as_possible(sweep: Path) -> None:
    groups = named(grouped(find_runs([sweep])))
    assert set(groups) == {"fedavg fp32", "fedadam fp32", "fedavg int4"}
    assert list(groups["fedavg int4"].label) == ["strategy.name", "codec.name"]
    assert set(groups["fedavg int4"].runs) == {"1", "2"}


def test_a_key_that_follows_from_another_is_not_named(record: Record, tmp_path: Path) -> None:
    for strategy, codec in (("fedavg", "fp32"), ("fedadam", "fp32"), ("sparseloco", "topk")):
        record(strategy, 1, 2.0, codec=codec)
    assert [group.name for group in grouped(find_runs([tmp_path]))] == ["fedavg", "fedadam", "sparseloco"]
    record("krum", 1, 2.0, codec="int4")
    two = [run for run in find_runs([tmp_path]) if run.config["codec.name"] != "fp32"]
    assert [group.name for group in grouped(two)] == ["sparseloco", "krum"]


def test_a_key_that_some_runs_lack_tells_them_apart(record: Record, tmp_path: Path) -> None:
    record("fedavg", 1, 2.0)
    record("fedavg", 1, 2.0, extra={"k": 3})
    groups = grouped(find_runs([tmp_path]))
    assert [dict(group.label) for group in groups] == [{"extra.k": ""}, {"extra.k": 3}]
    assert [group.name for group in groups] == ["all", "k=3"]
    record("fedavg", 1, 2.0, extra={"k": True})
    record("fedavg", 1, 2.0, extra={"k": False})
    assert [group.name for group in grouped(find_runs([tmp_path]))][2:] == ["k", "no k"]


def test_numbers_that_were_drawn_together_are_all_named(record: Record, tmp_path: Path) -> None:
    for k in range(4):
        drawn = {"lr": 0.1 + k / 3, "cap": 2.0 ** (k % 3) + 0.5, "twice_lr": 0.1 + k / 3, "flag": k > 1}
        record("fedavg", 1, 2.0, optim=drawn)
    groups = grouped(find_runs([tmp_path]))
    assert [list(group.label) for group in groups] == 4 * [["optim.lr", "optim.cap"]]
    assert groups[1].name == "lr=0.433333 cap=2.5"


def captured(groups: list[Group]) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(*shown(Facet(groups=groups), ["val_bpb"], [], console))
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_what_the_labels_leave_out_is_told(record: Record, tmp_path: Path) -> None:
    record("fedavg", 1, 2.0, rounds=3, checkpoint_keep=1)
    for seed in (2, 3):
        record("fedadam", seed, 2.0, rounds=4)
    groups = grouped(find_runs([tmp_path]))
    assert [group.name for group in groups] == ["fedavg", "fedadam"]
    assert unnamed(groups) == ["rounds"]  # nor of strategy.outer, which belongs to the strategy
    assert "The groups also differ in rounds." in captured(groups)


def test_what_a_number_in_a_label_leaves_out_is_told() -> None:
    groups = []
    for lr, head in ((1, 1), (2, 1), (2, 5)):
        config = {"seed": 1, "optim.matrix_lr": lr, "optim.head_lr": head, "copied.lr": lr}
        run = RecordedRun(folder=Path(), config=config, figures={})
        groups.append(Group(label={"optim.matrix_lr": lr}, runs={"1": run}))
    assert unnamed(groups) == ["optim.head_lr"]
    assert [group.name for group in groups[:2]] == ["matrix_lr=1", "matrix_lr=2"]


def test_means_and_paired_differences_by_hand(sweep: Path) -> None:
    """1.01 and 1.03 times the baseline: +2 % with a standard deviation of √2 %, and 12.706 · √2 / √2 % of interval."""
    groups = named(grouped(find_runs([sweep])))
    found = groups["fedavg fp32"].estimate("val_bpb")
    assert (found.n, found.mean, found.spread) == pytest.approx((2, 2.1, 0.2 / math.sqrt(2)))
    paired = groups["fedavg int4"].beside(groups["fedavg fp32"], "val_bpb")
    assert (paired.mean, paired.spread) == pytest.approx((0.02, 0.02 / math.sqrt(2)))
    assert paired.half == pytest.approx(0.12706, rel=1e-4)
    assert groups["fedadam fp32"].beside(groups["fedavg fp32"], "val_bpb").spread == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(Estimate.of([1.0]).half) and math.isnan(Estimate.of([]).mean)


def test_runs_are_averaged_over_a_key_that_holds_a_list(record: Record, tmp_path: Path) -> None:
    for speeds in ([1, 2], [3, 4]):
        record("fedavg", 1, 2.0, speeds=speeds)
    (group,) = grouped(find_runs([tmp_path]), over="speeds")
    assert set(group.runs) == {"[1, 2]", "[3, 4]"}


def test_a_diverged_run_counts_as_a_run_without_a_figure(record: Record, tmp_path: Path) -> None:
    record("fedavg", 1, 2.0)
    record("fedavg", 2, None)
    (group,) = grouped(find_runs([tmp_path]))
    assert (len(group.runs), group.estimate("val_bpb").n) == (2, 1)


def test_headings_are_as_short_as_they_can_be() -> None:
    keys = ["strategy.name", "strategy.outer.lr", "strategy.schedule._target_", "a.level", "b.level"]
    assert headings(keys) == ["strategy", "lr", "schedule", "a.level", "b.level"]
    assert headings(["clients", "strategy.client.clients"]) == ["clients", "client.clients"]
    assert headings(["strategy.name", "strategy._target_"]) == ["name", "_target_"]


def test_one_bad_group_does_not_push_the_others_together() -> None:
    assert edge([2.0, 2.1, 2.2, 2.3, 9.0, math.nan]) == pytest.approx(3.6)
    assert edge([2.0, 2.1, 2.2, 9.0]) == edge([2.0, 2.0, 2.0, 2.0, 2.0]) == math.inf


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["compare", *map(str, arguments)])
    return compare.main()


def test_the_command_prints_a_table_and_writes_files(
    sweep: Path, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record("fedyogi", 1, None)
    outs = [tmp_path / f"out{suffix}" for suffix in (*compare.PICTURES, *compare.TABLES)]
    options = [word for out in outs for word in ("--out", str(out))]
    assert called(monkeypatch, sweep, "--baseline", "fedavg fp32", *options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["strategy", "codec", "runs", "val_bpb", "difference"]
    assert lines[1].split() == ["fedavg", "fp32", "2", "2.1", "±", "0.14"]
    assert lines[2].split() == ["fedavg", "int4", "2", "2.143", "±", "0.17", "+2.00", "±", "13", "%"]
    assert lines[4].split() == ["fedyogi", "fp32", "1", "diverged", "-"]
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["val_bpb difference"].tolist()[:3] == pytest.approx([0.0, 0.02, 0.1])
    assert table["val_bpb without"].tolist() == [0, 0, 0, 1]
    assert "fedadam" in (tmp_path / "out.svg").read_text() and "diverged" in (tmp_path / "out.svg").read_text()
    tex = (tmp_path / "out.tex").read_text().splitlines()
    assert tex[2] == r"strategy & codec & runs & validation bits per byte & difference \\"
    assert tex[5] == r"fedavg & int4 & 2 & 2.143 $\pm$ 0.17 & $+$2.00 $\pm$ 13 \% \\"
    assert "fedadam" in (tmp_path / "out.tex").read_text() and "<td>fedadam</td>" in (tmp_path / "out.html").read_text()
    first = (tmp_path / "out.svg").read_bytes(), (tmp_path / "out.pdf").read_bytes()
    assert called(monkeypatch, sweep, "--baseline", "fedavg fp32", *options) == 0
    assert ((tmp_path / "out.svg").read_bytes(), (tmp_path / "out.pdf").read_bytes()) == first


def test_panels_compare_each_folder_apart(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The codec tells groups apart in one folder only, so the other has no group that is named by it."""
    for strategy, bpb, codec, place in (
        ("fedavg", 2.0, "fp32", "calm"),
        ("fedadam", 2.2, "fp32", "calm"),
        ("fedavg", 3.0, "fp32", "storm"),
        ("fedavg", 3.3, "int4", "storm"),
    ):
        folder = record(strategy, 1, bpb, codec)
        folder.rename((tmp_path / place).mkdir(exist_ok=True) or tmp_path / place / folder.name)
        (tmp_path / "sweep" / folder.name).mkdir()  # the next one has another number
    outs = (tmp_path / "out.svg", tmp_path / "out.csv")
    options = ("--baseline", "fedavg fp32", "--panels", *(word for out in outs for word in ("--out", str(out))))
    assert called(monkeypatch, tmp_path / "calm", tmp_path / "storm", *options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "calm" and "storm" in lines
    assert [line.split()[-2] for line in lines if line.endswith("%")] == ["+10.00", "+10.00"]
    table = pd.read_csv(outs[1])
    assert table["panel"].tolist() == ["calm", "calm", "storm", "storm"]
    assert table["val_bpb difference"].tolist() == pytest.approx([0.0, 0.1, 0.0, 0.1])
    assert all(f">{place}<" in outs[0].read_text() for place in ("calm", "storm"))
    with pytest.raises(ValueError, match="--baseline must name one group, got x, which 0 match"):
        called(monkeypatch, tmp_path / "calm", tmp_path / "storm", "--panels", "--baseline", "x")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("--metric", "status"),
            r"--metric must be a number of summary\.json, got status; use one of val_bpb, bytes\.up, or list all with",
        ),
        (
            ("--baseline", "fedavg"),
            r"--baseline must name one group, got fedavg, which 2 match; use one of fedadam",
        ),
        (
            ("--over", "nonsense"),
            r"--over must be a key of the runs' configurations, got nonsense; use seed, or another",
        ),
        (("--baseline", "x"), r"--baseline must name one group, got x, which 0 match"),
        (("--out", "a.gif"), r"--out must end in \.svg, .*, got a\.gif; use one of them"),
        (("--out", "no/a.svg"), r"--out must be in a folder that exists, got no/a\.svg; create it"),
    ],
)
def test_bad_options_are_named(sweep: Path, words: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=says):
        called(monkeypatch, sweep, *words)


def test_folders_without_runs_and_broken_files_are_named(
    sweep: Path,
    record: Record,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"RUN must be or hold the folder of a run, got .*empty; name runs or sweeps"):
        called(monkeypatch, tmp_path / "empty")
    (record("fedavg", 3, 2.0) / "summary.json").unlink()
    assert called(monkeypatch, sweep) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fednano: warning: ") and line.endswith("is not finished and left out")
    for status in ("failed", "interrupted"):
        (sweep / "6" / "summary.json").write_text(json.dumps({"status": status, "val_bpb": 9.0}))
        assert called(monkeypatch, sweep) == 0
        assert "is not finished and left out" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"RUN must hold a finished run, got none"):
        called(monkeypatch, sweep / "6")
    capsys.readouterr()
    twice = record("fedavg", 1, 3.0, logger={"name": "wandb"})
    assert called(monkeypatch, sweep) == 0
    told = capsys.readouterr()
    assert f"warning: {sweep}/0 is left out, since {twice} has the same configuration" in told.err
    assert "fedavg    fp32      2    2.6 ± " in told.out  # of 3.0 and 2.2
    for name, contents in itertools.product(("summary.json", "config.yaml"), ("{", "[1]")):
        (twice / name).write_text(contents)
        with pytest.raises(ValueError, match=rf"{twice}/{name} must hold .*, got"):
            called(monkeypatch, sweep)


def test_differences_have_the_same_minus_sign_as_all_changes() -> None:
    estimate = Estimate(n=3, mean=-0.0615, spread=0.01, half=0.02)
    assert _percent(estimate, "±") == "−6.15 ± 2 %"
    assert _percent(estimate, "+/-") == "-6.15 +/- 2 %"
    assert _percent(replace(estimate, mean=0.004), "±") == "+0.40 ± 2 %"
