"""What a comparison says of figures, keys and characters that are missing, and of files that it cannot write."""

import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from fednano import compare
from fednano.config.errors import guarded
from fednano.report.comparison import table
from fednano.report.comparison.defaults import with_defaults
from fednano.report.comparison.groups import Facet, grouped
from fednano.report.comparison.runs import find_runs

ROUNDS = "fednano.federation.round_length.Rounds"
SYNCHRONOUS = {"_target_": "fednano.strategy.synchronous.Synchronous", "name": "fedavg"}

Write = Callable[..., Path]
Command = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the files of a finished run: `write("a", {"val_bpb": 2.0}, seed=1, clients=4)`."""

    def written(name: str, figures: dict[str, Any], **config: Any) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "events.jsonl").touch()
        (folder / "config.yaml").write_text(yaml.safe_dump({"seed": 1} | config, allow_unicode=True), encoding="utf-8")
        (folder / "summary.json").write_text(json.dumps({"status": "completed", "weights_sha256": "ab"} | figures))
        return folder

    return written


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command; gives its exit code and the lines of its two streams."""

    def called(*words: str | Path) -> tuple[int, list[str], list[str]]:
        monkeypatch.setattr("sys.argv", ["compare", *map(str, words)])
        code = guarded(compare.main)
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return called


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Figures that are missing


@pytest.mark.parametrize(
    ("figures", "key", "says"),
    [
        ({"val_bpb": None}, "val_bpb", "diverged"),
        ({"val_bpb": None, "weights_sha256": None}, "val_bpb", "not measured"),  # runtime.compute=analytic
        ({"train_loss": None}, "train_loss", "diverged"),
        ({"energy": {"total": {"cost": None}}}, "energy.total.cost", "not measured"),  # no price was given
        ({}, "goodput", "not measured"),
        ({"status": "completed"}, "status", "not measured"),
        ({"val_bpb": float("nan")}, "val_bpb", "diverged"),
        ({"val_bpb": float("inf")}, "val_bpb", "diverged"),
    ],
)
def test_a_missing_figure_says_why(
    figures: dict[str, Any], key: str, says: str, write: Write, command: Command, tmp_path: Path
) -> None:
    run = write("0", figures)
    (found,) = find_runs([run])
    assert found.lack(key) == says and math.isnan(found.figure(key))
    nested: Any = 1.0
    for word in reversed(key.split(".")):
        nested = {word: nested}
    other = write("1", nested if key != "status" else {"val_bpb": 1.0}, clients=3)
    if key != "status":
        code, lines, _ = command(run, other, "--metric", key, "--out", tmp_path / "a.svg")
        assert code == 0 and says in lines[2] and says not in lines[1]
        assert says in (tmp_path / "a.svg").read_text()


def test_runs_without_a_figure_are_counted_by_the_reason(write: Write, command: Command) -> None:
    write("0", {"val_bpb": 2.0})
    write("1", {"val_bpb": None}, seed=2)
    folder = write("2", {"val_bpb": None, "weights_sha256": None}, seed=3).parent
    assert command(folder)[1][1].split("  ")[-1] == "2 (1 diverged, 1 not measured)"
    (folder / "0" / "summary.json").unlink()
    assert command(folder)[1][1].split("  ")[-1] == "1 diverged, 1 not measured"


def test_a_metric_that_no_run_has_measured_is_refused_in_one_line(write: Write, command: Command) -> None:
    for seed in (1, 2):
        folder = write(str(seed), {"val_bpb": None, "weights_sha256": None, "goodput": 0.5, "rounds": 2}, seed=seed)
    code, out, (line,) = command(folder.parent)
    assert (code, out) == (2, [])
    assert line.endswith(
        "--metric must be a figure that a run has measured, got val_bpb, which none has; use one of goodput, rounds"
    )
    assert command(folder.parent, "--metric", "goodput")[0] == 0


@pytest.mark.parametrize("key", ["val_bbp", "", "x" * 3000, "energy"])
def test_an_unknown_metric_is_refused_in_a_short_line_with_names_that_are_like_it(
    key: str, write: Write, command: Command
) -> None:
    many = {f"client_{i}": {"kwh": 1.0, "hours": 2.0} for i in range(200)}
    run = write("0", {"val_bpb": 2.0, "wall_s": 3.0, "energy": {"clients": many}})
    code, out, (line,) = command(run, "--metric", key)
    assert (code, out) == (2, []) and len(line) < 300
    assert line.endswith(", or list all with --list")
    if key == "val_bbp":
        assert "got val_bbp; use one of val_bpb, " in line
    code, out, err = command(run, "--list")
    assert (code, err) == (0, []) and len(out) == 402 and out[:2] == ["val_bpb", "wall_s"]


# Keys that are missing


def test_a_key_that_an_earlier_run_lacks_counts_as_its_default(write: Write, command: Command) -> None:
    """The default of the class, not that of the YAML file: `adopt` is what conf/round/steps.yaml chooses."""
    write("0", {"val_bpb": 2.0}, round={"_target_": ROUNDS})
    write("1", {"val_bpb": 2.2}, round={"_target_": ROUNDS, "overlap": 0, "alone_merge": "outer"}, seed=2)
    folder = write("2", {"val_bpb": 3.0}, round={"_target_": ROUNDS, "overlap": 5, "alone_merge": "adopt"}).parent
    code, lines, (warning,) = command(folder)
    assert code == 0 and lines[-1] == "The groups also differ in round.overlap."
    assert lines[1].split()[-4:] == ["2", "2.1", "±", "0.14"]
    assert warning.endswith("runs without round.alone_merge, round.overlap count as having the default")


def test_keys_outside_all_classes_have_the_defaults_of_the_root_configuration(write: Write) -> None:
    write("0", {}, clients=4)
    write("1", {}, budget={"tokens": None}, eval_every=4)
    folder = write("2", {}, budget={"tokens": 5}, clients=9, eval_every=4, seed=2).parent
    runs, filled = with_defaults(find_runs([folder]))
    assert [run.config["clients"] for run in runs] == [4, 4, 9]
    assert [run.config["budget.tokens"] for run in runs] == [None, None, 5]
    assert filled == ["budget.tokens", "clients", "eval_every"]


def test_a_key_of_another_class_or_of_an_unknown_one_is_not_filled_in(write: Write) -> None:
    write("0", {}, guard={"_target_": "fednano.federation.guard.Unguarded"}, strategy=SYNCHRONOUS | {"client": None})
    client = {"_target_": "fednano.strategy.fedprox.Proximal", "mu": 0.1}
    write("1", {}, guard={"_target_": "fednano.federation.guard.NormGuard", "window": 64}, strategy={"client": client})
    write("2", {}, mine={"_target_": "mine.Own", "k": 1})
    folder = write("3", {}, mine={"_target_": "mine.Own"}).parent
    runs, filled = with_defaults(find_runs([folder]))
    assert filled == []
    assert "guard.window" not in runs[0].config and "strategy.client.mu" not in runs[0].config
    assert "mine.k" not in runs[3].config and len(grouped(runs)) == 4


def test_a_default_that_no_run_has_recorded_still_tells_groups_apart(write: Write) -> None:
    write("0", {}, strategy=SYNCHRONOUS)
    folder = write("1", {}, strategy=SYNCHRONOUS | {"needs_muon": True}).parent
    runs, filled = with_defaults(find_runs([folder]))
    assert filled == [] and {group.name for group in grouped(runs)} == {"no needs_muon", "needs_muon"}


def test_moved_classes_groups_of_earlier_versions_and_whole_numbers_are_the_same(write: Write) -> None:
    unguarded = {"_target_": "fednano.federation.guard.Unguarded"}
    write("0", {}, strategy={"_target_": "fednano.strategy.diloco.DiLoCo", "lr": 1, "betas": [1, 0.5]})
    now = {"_target_": "fednano.strategy.synchronous.Synchronous", "lr": 1.0, "betas": [1.0, 0.5]}
    folder = write("1", {}, strategy=now, guard=unguarded, seed=2).parent
    assert len(grouped(find_runs([folder]))) == 1


# Folders


def test_folders_are_read_once_and_what_lies_inside_a_run_is_none(write: Write, command: Command) -> None:
    run = write("0", {"val_bpb": 2.0})
    inner = run / "wandb" / "files"
    inner.mkdir(parents=True)
    for name in ("config.yaml", "events.jsonl"):
        (inner / name).write_text("wandb_version: 1\n")
    half = write("1", {"status": "running"}, seed=2)
    code, lines, err = command(run, run, run.parent, half, f"{run}/../0")
    assert (code, lines[1].split()) == (0, ["1", "2"])
    assert [line.rpartition("/")[2] for line in err] == ["1 is not finished and left out"]


@pytest.mark.parametrize("given", ["nothing_*", "."])
def test_what_is_no_run_is_refused(given: str, tmp_path: Path, command: Command) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    code, _, (line,) = command(tmp_path / given)
    assert code == 2 and "RUN must be or hold the folder of a run, got" in line
    assert ("which does not exist" in line) == (given != ".")


def test_an_empty_baseline_is_not_taken_for_none(write: Write, command: Command) -> None:
    write("0", {"val_bpb": 2.0})
    folder = write("1", {"val_bpb": 2.0}, clients=2).parent
    code, _, err = command(folder, "--baseline", "")
    assert code == 2 and "--baseline must name one group, got '', which 2 match" in err[-1]


# Tables


def printed(runs: Path, metrics: list[str], width: int, encoding: str = "utf-8", baseline: str = "") -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width)
    groups = grouped(find_runs([runs]))
    panel = Facet(groups=groups, baseline=compare.chosen(groups, baseline) if baseline else None)
    for part in table.shown(panel, metrics, (), console):
        console.print(part)
    file.seek(0)
    return file.read().splitlines()


def test_metrics_that_do_not_fit_beside_each_other_get_a_table_each(write: Write) -> None:
    longest = "energy.baselines.always_on.client_0.run_to_it.kwh"
    for number, name in enumerate(("a_strategy_of_many_words", "trimmed_mean")):
        for seed in (1, 2):
            folder = write(
                f"{name}{seed}",
                {"val_bpb": 2.123 + seed / 9 + number, "bytes.up": 5.4e8 * seed, longest: 1.234 * seed},
                strategy={"name": name},
                seed=seed,
            ).parent
    metrics = ["val_bpb", "bytes.up", longest]
    (header, *_) = wide = printed(folder, metrics, 200, baseline="trimmed_mean")
    assert header.split() == ["strategy", "runs", *(word for key in metrics for word in (key, "difference"))]
    assert len(wide) == 5
    narrow = printed(folder, metrics, 80, baseline="trimmed_mean")
    assert max(map(len, narrow)) <= 80 and "…" not in "".join(narrow)
    cells = [cell for line in wide[1:3] for cell in line.split("  ") if "±" in cell]
    assert len(cells) == 9 and all(any(cell.strip() in line for line in narrow) for cell in cells)
    assert [line.split()[:2] for line in narrow].count(["strategy", "runs"]) == 3


def test_terminals_without_the_character_get_a_plus_and_a_minus(write: Write) -> None:
    for seed in (1, 2):
        folder = write(str(seed), {"val_bpb": 2.0}, seed=seed).parent
    assert printed(folder, ["val_bpb"], 80, "ascii")[1].split() == ["2", "2", "+/-", "0"]
    assert printed(folder, ["val_bpb"], 80)[1].split() == ["2", "2", "±", "0"]


@pytest.mark.parametrize("name", ["[bold]a[/bold]", "$a$ $\\frac$", "größe 模型"])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_are_neither_markup_nor_formulas(name: str, write: Write, command: Command, tmp_path: Path) -> None:
    write("0", {"val_bpb": 2.0}, strategy={"name": name})
    folder = write("1", {"val_bpb": 3.0}, strategy={"name": "other"}).parent
    outs = [tmp_path / f"a{suffix}" for suffix in (*compare.PICTURES, *compare.TABLES)]
    code, lines, err = command(folder, *(word for out in outs for word in ("--out", out)))
    assert (code, err) == (0, []) and lines[1].startswith(name)
    assert name.split(maxsplit=1)[0] in outs[0].read_text(encoding="utf-8")


def test_a_run_that_has_merged_nothing_is_told(write: Write, command: Command) -> None:
    write("0", {"val_bpb": 2.0, "tokens": 512}, clients=1)
    idle = write("1", {"val_bpb": 4.0, "tokens": 0}, clients=2)
    code, lines, (warning,) = command(idle.parent)
    assert (code, len(lines)) == (0, 3)
    assert warning.endswith(f"{idle} has merged nothing, so that its losses are those of the untrained model")


def test_the_note_says_when_there_is_no_interval(write: Write) -> None:
    write("0", {"val_bpb": 2.0}, clients=1)
    folder = write("1", {"val_bpb": 3.0}, clients=2).parent
    assert printed(folder, ["val_bpb"], 120, baseline="1")[-1].endswith("; one pair alone has no interval.")
    write("2", {"val_bpb": 2.0}, clients=1, seed=2)
    write("3", {"val_bpb": 3.0}, clients=2, seed=2)
    assert printed(folder, ["val_bpb"], 120, baseline="clients=1")[-1].endswith("with 95 % intervals.")


# Files


def test_out_is_checked_before_any_run_is_read(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.svg").mkdir()
    (tmp_path / "file").touch()
    sealed = "/proc" if sys.platform == "linux" else "/dev"
    for out, says in [
        ("a.gif", "--out must end in .svg"),
        ("a", "--out must end in .svg"),
        ("no/a.svg", "--out must be in a folder that exists, got no/a.svg"),
        ("file/a.svg", "--out must be in a folder that exists, got file/a.svg"),
        ("folder.svg", "--out must be a file, got folder.svg, which is a folder"),
        (f"{sealed}/a.svg", f"--out must be in a folder that can be written to, got {sealed}/a.svg"),
    ]:
        code, printed, (line,) = command("no_such_run", "--out", "good.svg", "--out", out)
        assert (code, printed) == (2, []) and says in line
    assert names(tmp_path) == ["file", "folder.svg"]


def test_a_file_is_written_whole_or_not_at_all(
    write: Write, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write("0", {"val_bpb": 2.0})
    (tmp_path / "a.svg").write_text("earlier")

    def fails(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied", "b.csv")

    monkeypatch.setattr(table, "text", fails)
    code, _, (line,) = command(run, "--out", tmp_path / "a.svg", "--out", tmp_path / "b.csv")
    assert code == 1 and "Permission denied" in line
    assert (tmp_path / "a.svg").read_text() == "earlier"
    assert names(tmp_path) == ["a.svg", "runs"]
