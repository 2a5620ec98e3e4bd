"""The picture of a comparison: a row for each group in each panel, and a dot for each seed."""

import math
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fednano.report.comparison.groups import Facet
from fednano.report.comparison.titles import title
from fednano.report.units import DIVERGED

STYLE: Any = {  # matplotlib types each key by its name
    "font.size": 8,
    "svg.hashsalt": "fednano",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}
DOT, MEAN, LINE, FAINT = "#2563a8", "#111111", "#8a8a8a", "#e3e3e3"
FAR = 8.0  # groups this many times as far from the best as the median group are drawn at the edge
FEW = 5  # so many groups and more have a median that says where most of them are


def drawn(panels: Sequence[Facet], metric: str, form: str) -> bytes:
    """The picture in a format: svg, pdf or png. Groups without a figure have no dots, but a word that says why."""
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    most = max(len(panel.groups) for panel in panels)
    with mpl.rc_context(STYLE):
        size = (5.5 if columns == 1 else 7.2, lines * (0.7 + 0.22 * most))
        figure = Figure(figsize=size, layout="constrained")
        for place, panel in enumerate(panels, start=1):
            _draw(figure.add_subplot(lines, columns, place), panel, metric)
        return saved(figure, form)


def saved(figure: Figure, form: str) -> bytes:
    """A figure in a format, without a date: the same comparison gives the same file."""
    bare = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
    contents = BytesIO()
    figure.savefig(contents, format=form, dpi=200, metadata=bare)
    return contents.getvalue()


def _draw(axes: Axes, panel: Facet, metric: str) -> None:
    groups, baseline = panel.groups, panel.baseline
    limit = edge([group.estimate(metric).mean for group in groups])
    for row, group in enumerate(groups):
        values = list(group.values(metric).values())
        near = [value for value in values if value <= limit]
        axes.axhline(row, color=FAINT, linewidth=0.6, zorder=0)
        axes.plot(near, [row] * len(near), "o", color=DOT, markersize=3.5, alpha=0.7)
        if near and len(near) == len(values):
            axes.plot([group.estimate(metric).mean], [row], "|", color=MEAN, markersize=9)
        elif len(near) < len(group.runs):
            lacks = " or ".join(sorted(group.lacks(metric)))
            far = f"{group.estimate(metric).mean:.3g} →" if values else lacks.replace(DIVERGED, f"{DIVERGED} →")
            axes.annotate(far, (1, row), xycoords=("axes fraction", "data"), ha="right", va="center")
    if baseline is not None and (mean := baseline.estimate(metric).mean) <= limit:
        axes.axvline(mean, color=LINE, linewidth=0.8, linestyle="--", zorder=0)
    axes.set_yticks(range(len(groups)), [plain(group.name) for group in groups])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel(plain(title(metric)))
    axes.set_title(plain(panel.title), fontsize="medium", loc="left")


def plain(text: str) -> str:
    """Text that matplotlib takes for no formula."""
    return text.replace("$", r"\$")


def edge(means: Sequence[float]) -> float:
    """The largest figure that is drawn to scale, so that one bad group does not push all others together."""
    finite = sorted(mean for mean in means if math.isfinite(mean))
    if len(finite) < FEW:
        return math.inf
    best, middle = finite[0], finite[len(finite) // 2]
    return best + FAR * (middle - best) if middle > best else math.inf
