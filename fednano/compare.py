"""The command `python -m fednano.compare`: runs side by side, grouped by what differs in their configurations."""

from fednano.core.interrupts import end_at_signals

if __name__ == "__main__":  # first, since the imports below take a while
    end_at_signals()

import argparse
import math
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from fednano.config.checks import listed
from fednano.config.errors import guarded, shown, warn
from fednano.core.files import can_write, write_whole
from fednano.report.comparison.defaults import with_defaults
from fednano.report.comparison.runs import find_runs, metrics, require_metric
from fednano.report.terminal.printer import printer

if TYPE_CHECKING:
    from fednano.report.comparison.groups import Facet, Group
    from fednano.report.comparison.runs import RecordedRun

PICTURES, TABLES = (".svg", ".pdf", ".png"), (".csv", ".html", ".tex")
MISSING = "python -m fednano.compare must have pandas, scipy and matplotlib, got no {}; run uv sync --extra compare"


def main() -> int:
    """Print the table and write the files asked for. Raises ValueError for bad arguments."""
    options = parsed(sys.argv[1:])
    try:
        from fednano.report.comparison import figure, pareto, table
    except ModuleNotFoundError as error:
        raise ValueError(MISSING.format(error.name)) from None
    titled = [(path.resolve().name, [path]) for path in options.runs] if options.panels else [("", options.runs)]
    found = [(title, find_runs(paths, _unfinished)) for title, paths in titled]
    everything = [run for _, runs in found for run in runs]
    if options.list:
        print(*metrics(everything), sep="\n")
        return 0
    for metric in (*options.metric, *options.pareto):
        require_metric(everything, metric)
    panels = compared(found, options)
    files = {}
    for path in options.out:
        form = path.suffix[1:]
        if path.suffix in TABLES:
            files[path] = table.text(panels, options.metric, options.pareto, path.suffix)
        elif options.pareto:
            files[path] = pareto.drawn(panels, options.metric[0], options.pareto, form)
        else:
            files[path] = figure.drawn(panels, options.metric[0], form)
    console = printer()
    for index, panel in enumerate(panels):
        if panel.title:
            console.print(*([Text()] if index else []), Text(panel.title, style="bold"), sep="\n")
        for part in table.shown(panel, options.metric, options.pareto, console):
            console.print(part)
    for path, contents in files.items():
        write_whole(path, contents)
        print(path)
    return 0


def compared(found: Sequence[tuple[str, Sequence["RecordedRun"]]], options: argparse.Namespace) -> list["Facet"]:
    """A panel for each (title, runs), whose groups are in the order of the first metric."""
    from fednano.report.comparison.groups import Facet, grouped

    whole, filled = with_defaults([run for _, runs in found for run in runs])
    if filled:
        warn(f"runs without {listed(filled, filled[0])} count as having the default")
    for run in whole:
        if run.figures.get("tokens") == 0 and run.figures.get("weights_sha256"):
            warn(f"{run.folder} has merged nothing, so that its losses are those of the untrained model")

    def order(group: "Group") -> float:
        mean = group.estimate(options.metric[0]).mean
        return math.inf if math.isnan(mean) else mean

    rest = iter(whole)
    rows = [
        (title, sorted(grouped(list(islice(rest, len(runs))), options.over, _repeated), key=order))
        for title, runs in found
    ]
    if options.baseline is None:
        return [Facet(groups=groups, title=title) for title, groups in rows]
    # A word that names no group of a panel is of a key that tells groups apart in another panel only.
    known = [set().union(*map(_words, groups)) for _, groups in rows]
    elsewhere = set().union(*known)
    panels = []
    for (title, groups), here in zip(rows, known, strict=True):
        words = [word for word in options.baseline.split() if word in here or word not in elsewhere]
        panels.append(Facet(groups=groups, baseline=chosen(groups, " ".join(words)), title=title))
    return panels


def _unfinished(folder: Path) -> None:
    warn(f"{folder} is not finished and left out")


def _repeated(left: "RecordedRun", counts: "RecordedRun") -> None:
    warn(f"{left.folder} is left out, since {counts.folder} has the same configuration")


def chosen(groups: Sequence["Group"], name: str) -> "Group":
    """The group that all words of a name like "fedavg lr=0.7" or "fedavg 0.7" are in.

    Raises ValueError unless there is exactly one.
    """
    found = [group for group in groups if set(name.split()) <= _words(group)]
    exact = [group for group in found if group.name == name]
    if len(exact or found) != 1:
        raise ValueError(
            f"--baseline must name one group, got {shown(name)}, which {len(found)} match; use one of "
            + listed(sorted(group.name for group in groups), name)
        )
    return (exact or found)[0]


def _words(group: "Group") -> set[str]:
    """What names a group: lr=0.7 and 0.7 alike."""
    named = group.name.split()
    return {*named, *(word.partition("=")[2] for word in named)}


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fednano.compare",
        description="Compare runs: one row for each group of runs that differ in their seed alone, with the mean and "
        "standard deviation of a figure, and its paired difference from a baseline with a 95 % interval.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or one that holds runs")
    parser.add_argument(
        "--metric",
        action="append",
        metavar="KEY",
        help="a number of summary.json, such as bytes.up; may be repeated; pictures show the first",
    )
    parser.add_argument("--list", action="store_true", help="list the keys that --metric takes for these runs")
    parser.add_argument("--baseline", metavar="NAME", help="the group to compare with, as named in the table: fedavg")
    parser.add_argument(
        "--panels", action="store_true", help="compare the runs of each RUN apart: a table and a panel for each"
    )
    parser.add_argument(
        "--pareto",
        action="append",
        default=[],
        metavar="KEY",
        help="a cost, such as energy_kwh, bytes.up or wall_s: mark the groups that no other group beats in both the "
        "metric and the cost, and draw one against the other; may be repeated",
    )
    parser.add_argument("--over", default="seed", metavar="KEY", help="the key that groups are averaged over")
    parser.add_argument(
        "--out", action="append", type=Path, default=[], metavar="FILE", help=".svg, .pdf, .png, .csv, .html or .tex"
    )
    options = parser.parse_args(arguments)
    options.metric = options.metric or ["val_bpb"]
    for path in options.out:
        if path.suffix not in (*PICTURES, *TABLES):
            raise ValueError(f"--out must end in {', '.join((*PICTURES, *TABLES))}, got {path}; use one of them")
        if not path.parent.is_dir():
            raise ValueError(f"--out must be in a folder that exists, got {path}; create it or name another file")
        if path.is_dir():
            raise ValueError(f"--out must be a file, got {path}, which is a folder; name another file")
        if not can_write(path.parent):
            raise ValueError(f"--out must be in a folder that can be written to, got {path}; name another file")
    return options


if __name__ == "__main__":
    sys.exit(guarded(main))
