"""The table of a comparison, for the terminal and for files."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.table import Table

from fednano.report.comparison.groups import Estimate, Group, short

WRITERS = {
    ".csv": lambda frame, path: frame.to_csv(path, index=False),
    ".html": lambda frame, path: frame.to_html(path, index=False, border=0, na_rep=""),
    ".tex": lambda frame, path: frame.to_latex(path, index=False, escape=True, na_rep="", float_format="%.4g"),
}
"""How a table is written, by the file's suffix."""


def frame(groups: Sequence[Group], metrics: Sequence[str], baseline: Group | None) -> pd.DataFrame:
    """One row for each group: its label, number of seeds, and each metric's mean, standard deviation and difference.

    Differences from the baseline are relative, 0.01 is 1 % more; `half` is half of their 95 % interval.
    """
    return pd.DataFrame([_row(group, metrics, baseline) for group in groups])


def _row(group: Group, metrics: Sequence[str], baseline: Group | None) -> Mapping[str, object]:
    row: dict[str, object] = {**group.label, "runs": len(group.runs)}
    for metric in metrics:
        found = group.estimate(metric)
        row |= {metric: found.mean, f"{metric} sd": found.spread, f"{metric} without": len(group.runs) - found.n}
        if baseline is not None:
            difference = group.beside(baseline, metric)
            row |= {f"{metric} difference": difference.mean, f"{metric} half": difference.half}
    return row


def shown(groups: Sequence[Group], metrics: Sequence[str], baseline: Group | None) -> Table:
    """The same for people; the best group of the first metric is not marked, since lower is not always better."""
    table = Table(box=None, pad_edge=False, caption_justify="left", caption_style="")
    if baseline is not None:
        table.caption = f"\nDifferences are from {baseline.name}, paired by seed, with 95 % intervals."
    for key in headings(list(groups[0].label)):
        table.add_column(key, overflow="fold")
    table.add_column("runs", justify="right")
    for metric in metrics:
        table.add_column(metric, justify="right")
        if baseline is not None:
            table.add_column("difference", justify="right")
    for group in groups:
        cells = [short(value) for value in group.label.values()]
        cells.append(str(len(group.runs)))
        for metric in metrics:
            cells.append(_mean(group.estimate(metric), len(group.runs)))
            if baseline is not None:
                cells.append("" if group is baseline else _percent(group.beside(baseline, metric)))
        table.add_row(*cells)
    return table


def headings(keys: Sequence[str]) -> list[str]:
    """The keys without what a column can do without: lr in place of strategy.outer.lr if no other key ends in it."""
    bare = [key.removesuffix(".name").removesuffix("._target_") for key in keys]
    bare = [each if bare.count(each) == 1 else key for key, each in zip(keys, bare, strict=True)]

    def heading(key: str) -> str:
        parts = key.split(".")
        ends = [".".join(parts[i:]) for i in reversed(range(len(parts)))]
        return next((end for end in ends if sum(f".{other}".endswith(f".{end}") for other in bare) == 1), key)

    return [heading(key) for key in bare]


def _mean(found: Estimate, runs: int) -> str:
    if not found.n:
        return "diverged"
    spread = "" if math.isnan(found.spread) else f" ± {found.spread:.2g}"
    return f"{found.mean:.4g}{spread}" + (f" ({runs - found.n} diverged)" if found.n < runs else "")


def _percent(found: Estimate) -> str:
    if math.isnan(found.mean):
        return "-"
    half = "" if math.isnan(found.half) else f" ± {100 * found.half:.2g}"
    return f"{100 * found.mean:+.2f}{half} %"


def write(table: pd.DataFrame, path: Path) -> None:
    """Write it in the format of the path's suffix, one of WRITERS."""
    WRITERS[path.suffix](table, path)
