"""The table of a comparison, for the terminal and for files."""

import math
import re
from collections.abc import Mapping, Sequence

import pandas as pd
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from fednano.config.checks import listed
from fednano.report import units
from fednano.report.comparison.apart import short
from fednano.report.comparison.groups import Estimate, Facet, Group, unnamed
from fednano.report.comparison.pareto import front
from fednano.report.comparison.titles import title

LATEX = str.maketrans({**{c: f"\\{c}" for c in "&%$#_{}"}, "±": r"$\pm$", "~": r"\textasciitilde{}",
                       "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "₂": "$_2$", "→": r"$\to$"})  # fmt: skip
_SIGN = re.compile(r"(?<!\w)[+-](?=\d)")
LARGE = 1e5
LEAST = 8  # characters of a label's column


def frame(panels: Sequence[Facet], metrics: Sequence[str], costs: Sequence[str] = ()) -> pd.DataFrame:
    """One row for each group: its label, number of seeds, and each metric's mean, standard deviation and difference.

    Differences from the baseline are relative, 0.01 is 1 % more; `half` is half of their 95 % interval. For each of
    the `costs`, the mean follows, and whether the group is on the Pareto front of the first metric against it.
    """
    return pd.DataFrame(
        [
            {**({"panel": panel.title} if panel.title else {}), **_row(group, metrics, panel.baseline)}
            | {name: value for cost in costs for name, value in _cost(group, panel, metrics[0], cost).items()}
            for panel in panels
            for group in panel.groups
        ]
    )


def _row(group: Group, metrics: Sequence[str], baseline: Group | None) -> Mapping[str, object]:
    row: dict[str, object] = {**group.label, "runs": len(group.runs)}
    for metric in metrics:
        found = group.estimate(metric)
        row |= {metric: found.mean, f"{metric} sd": found.spread, f"{metric} without": len(group.runs) - found.n}
        if baseline is not None:
            difference = group.beside(baseline, metric)
            row |= {f"{metric} difference": difference.mean, f"{metric} half": difference.half}
    return row


def _cost(group: Group, panel: Facet, metric: str, cost: str) -> Mapping[str, object]:
    return {cost: group.estimate(cost).mean, f"front of {cost}": group in front(panel.groups, metric, cost)}


def shown(panel: Facet, metrics: Sequence[str], costs: Sequence[str], console: Console) -> list[RenderableType]:
    """The same for people: one table if the console is wide enough for it, otherwise one for each metric.

    The best group is not marked, since lower is not always better. Each of the `costs` has a table of its own.
    """
    groups, baseline = panel.groups, panel.baseline
    plus_minus = "±" if _encodable("±", console.encoding) else "+/-"
    whole = _table(groups, metrics, baseline, plus_minus)
    wide = console.options.update(max_width=10_000)
    fits = console.measure(whole, options=wide).maximum <= console.width
    parts: list[RenderableType] = []
    for table in [whole] if fits else [_table(groups, [metric], baseline, plus_minus) for metric in metrics]:
        parts += [Text(), table] if parts else [table]
    if baseline is not None:
        note = f"Differences are from {baseline.name}, paired by seed, with 95 % intervals"
        beside = [group.beside(baseline, metric).n for group in groups if group is not baseline for metric in metrics]
        parts += [Text(), Text(f"{note}; one pair alone has no interval." if 1 in beside else f"{note}.")]
    if rest := unnamed(groups):
        parts += [Text(), Text(f"The groups also differ in {listed(rest, rest[0])}.")]
    for cost in costs:
        best = front(groups, metrics[0], cost)
        columns = [(key, [_mean(group, key, plus_minus) for group in groups]) for key in (metrics[0], cost)]
        marked = _labelled(groups, [*columns, ("front", ["yes" if group in best else "" for group in groups])])
        note = f"front: no other group is at least as good in both {metrics[0]} and {cost}."
        parts += [Text(), marked, Text(), Text(note)]
    return parts


def _table(groups: Sequence[Group], metrics: Sequence[str], baseline: Group | None, plus_minus: str) -> Table:
    columns: list[tuple[str, list[str]]] = [("runs", [str(len(group.runs)) for group in groups])]
    for metric in metrics:
        columns += _compared(groups, metric, baseline, plus_minus, metric)
    return _labelled(groups, columns)


def _compared(
    groups: Sequence[Group], metric: str, baseline: Group | None, plus_minus: str, heading: str
) -> list[tuple[str, list[str]]]:
    """Columns by their headings: the means of a metric and, with a baseline, the differences from it."""
    columns = [(heading, [_mean(group, metric, plus_minus) for group in groups])]
    if baseline is not None:
        found = ["" if group is baseline else _percent(group.beside(baseline, metric), plus_minus) for group in groups]
        columns.append(("difference", found))
    return columns


def _labelled(groups: Sequence[Group], columns: Sequence[tuple[str, Sequence[str]]]) -> Table:
    """A row for each group: its label, then what the columns say of it, by their headings."""
    table = Table(box=None, pad_edge=False)
    labels = [[short(value) for value in group.label.values()] for group in groups]
    for index, key in enumerate(headings(list(groups[0].label))):
        longest = max(len(row[index]) for row in labels)
        table.add_column(Text(key), overflow="fold", min_width=min(longest, LEAST))
    for heading, cells in columns:  # a long heading is folded, a figure never
        table.add_column(Text(heading), justify="right", overflow="fold", min_width=max(map(len, cells)))
    for row, words in enumerate(labels):
        table.add_row(*map(Text, words), *(Text(cells[row]) for _, cells in columns))  # not read as markup
    return table


def _encodable(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def headings(keys: Sequence[str]) -> list[str]:
    """The keys without what a column can do without: lr in place of strategy.outer.lr if no other key ends in it."""
    bare = [key.removesuffix(".name").removesuffix("._target_") for key in keys]
    bare = [each if bare.count(each) == 1 else key for key, each in zip(keys, bare, strict=True)]

    def heading(key: str) -> str:
        parts = key.split(".")
        ends = [".".join(parts[i:]) for i in reversed(range(len(parts)))]
        return next((end for end in ends if sum(f".{other}".endswith(f".{end}") for other in bare) == 1), key)

    return [heading(key) for key in bare]


def _mean(group: Group, metric: str, plus_minus: str) -> str:
    """The mean, its spread, and how many runs have no part in it; the reason alone if that holds for all of them."""
    found, lacks = group.estimate(metric), group.lacks(metric)
    if not found.n and len(lacks) == 1:
        return next(iter(lacks))
    without = ", ".join(f"{n} {lack}" for lack, n in sorted(lacks.items()))
    if not found.n:
        return without
    spread = "" if math.isnan(found.spread) else f" {plus_minus} {_number(found.spread, 2)}"
    return f"{_number(found.mean, 4)}{spread}" + (f" ({without})" if without else "")


def _number(value: float, digits: int) -> str:
    """A large number with a suffix, such as 575M, and others with so many significant digits."""
    return units.count(value) if abs(value) >= LARGE else f"{value:.{digits}g}"


def _percent(found: Estimate, plus_minus: str) -> str:
    if math.isnan(found.mean):
        return "-"
    half = "" if math.isnan(found.half) else f" {plus_minus} {100 * found.half:.2g}"
    sign = "\N{MINUS SIGN}" if found.mean < 0 and plus_minus == "±" else f"{found.mean:+.0f}"[0]
    return f"{sign}{abs(100 * found.mean):.2f}{half} %"


def text(panels: Sequence[Facet], metrics: Sequence[str], costs: Sequence[str], suffix: str) -> bytes:
    """A table file: .csv has the numbers of `frame`; .html and .tex have the cells that people read."""
    if suffix == ".csv":
        return bytes(frame(panels, metrics, costs).to_csv(index=False).encode())
    cells = _sheet(panels, metrics, costs)
    if suffix == ".html":
        written: str = cells.to_html(index=False, border=0)
    else:
        cells.columns = pd.Index([_latex(str(column)) for column in cells.columns])
        written = cells.map(_latex).to_latex(index=False, escape=False)
    return written.encode()


def _sheet(panels: Sequence[Facet], metrics: Sequence[str], costs: Sequence[str]) -> pd.DataFrame:
    """Cells as a paper shows them: means with their spreads, and differences in percent with their intervals."""
    keys = list(panels[0].groups[0].label)
    names = headings(keys) if len(panels) == 1 else ["group"]
    rows: list[list[str]] = []
    heads: list[str] = []
    for panel in panels:
        groups = panel.groups
        columns = [("runs", [str(len(group.runs)) for group in groups])]
        for metric in metrics:
            columns += _compared(groups, metric, panel.baseline, "±", title(metric))
        for cost in costs:
            best = front(groups, metrics[0], cost)
            columns += _compared(groups, cost, None, "±", title(cost))
            columns.append(("front", ["yes" if group in best else "" for group in groups]))
        heads = [head for head, _ in columns]
        for row, group in enumerate(groups):
            label = [short(group.label.get(key, "")) for key in keys] if len(panels) == 1 else [group.name]
            rows.append([*([panel.title] if panel.title else []), *label, *(cells[row] for _, cells in columns)])
    return pd.DataFrame(rows, columns=[*(["panel"] if panels[0].title else []), *names, *heads])


def _latex(cell: str) -> str:
    parts = _SIGN.split(cell)
    signs = [*_SIGN.findall(cell), ""]
    return "".join(
        part.translate(LATEX) + (f"${sign}$" if sign else "") for part, sign in zip(parts, signs, strict=True)
    )
