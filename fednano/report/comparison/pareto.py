"""Pareto fronts: the groups of runs of which none is better in a figure without costing more, and their picture."""

import math
from collections.abc import Sequence
from itertools import chain, product
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import EngFormatter
from matplotlib.transforms import Bbox

from fednano.report.comparison.figure import DOT, FAINT, LINE, STYLE, plain, saved
from fednano.report.comparison.groups import Facet, Group
from fednano.report.comparison.titles import title

FRAME: Any = {**STYLE, "axes.spines.left": True}
LARGE = 1e5  # from here on, ticks have a suffix, as in 575M
MOST_LINES, LINE_POINTS = 8, 8.5  # by which a label is moved off others, and the height of one
WIDE = 20.0  # costs that differ by more than this factor are drawn on a logarithmic axis


def front(groups: Sequence[Group], metric: str, cost: str) -> list[Group]:
    """The groups that no other group beats: by a mean that is lower in one of both and not higher in the other.

    In ascending order of the cost. Groups of which one of both is not known have no part in it.
    """
    found: list[Group] = []
    for group in sorted(known(groups, metric, cost), key=lambda g: (mean(g, cost), mean(g, metric))):
        if not found or mean(group, metric) < mean(found[-1], metric):
            found.append(group)
        elif (mean(group, cost), mean(group, metric)) == (mean(found[-1], cost), mean(found[-1], metric)):
            found.append(group)  # as good as the other
    return found


def known(groups: Sequence[Group], metric: str, cost: str) -> list[Group]:
    """The groups that have both figures."""
    return [group for group in groups if math.isfinite(mean(group, metric)) and math.isfinite(mean(group, cost))]


def mean(group: Group, key: str) -> float:
    """NaN if no run of the group has the figure."""
    return group.estimate(key).mean


def drawn(panels: Sequence[Facet], metric: str, costs: Sequence[str], form: str) -> bytes:
    """The picture in a format, svg, pdf or png: for each panel and each cost the means, the seeds and the front."""
    plots = list(product(panels, costs))
    columns = min(2, len(plots))
    lines = -(-len(plots) // columns)
    with mpl.rc_context(FRAME):
        figure = Figure(figsize=(3.6 * columns, 2.8 * lines), layout="constrained")
        for place, (panel, cost) in enumerate(plots, start=1):
            _draw(figure.add_subplot(lines, columns, place), panel, metric, cost)
        figure.draw_without_rendering()  # or nobody knows where things are
        for axes in figure.axes:
            spread([text for text in axes.texts if isinstance(text, Annotation)])
        return saved(figure, form)


def _draw(axes: Axes, panel: Facet, metric: str, cost: str) -> None:
    groups, best = known(panel.groups, metric, cost), front(panel.groups, metric, cost)
    costs = [mean(group, cost) for group in groups]
    if costs and min(costs) > 0 and max(costs) > WIDE * min(costs):
        axes.set_xscale("log")
    else:
        axes.locator_params(axis="x", nbins=5)
    if costs and max(costs) >= LARGE:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(0.18, 0.12)
    axes.step([mean(g, cost) for g in best], [mean(g, metric) for g in best], where="post", color=LINE, linewidth=0.9)
    for group in groups:
        x, y = mean(group, cost), mean(group, metric)
        on_front = group in best
        values, spent = group.values(metric), group.values(cost)
        seeds = [seed for seed in values if seed in spent]
        axes.plot([spent[s] for s in seeds], [values[s] for s in seeds], ".", color=FAINT, markersize=4, zorder=1)
        axes.plot([x], [y], "o", color=DOT, markersize=5, markerfacecolor=DOT if on_front else "white", zorder=3)
        colour = "black" if on_front else "#666666"
        tie = {"arrowstyle": "-", "linewidth": 0.4, "color": FAINT, "shrinkA": 0.0, "shrinkB": 2.0}
        text = plain(group.name)
        axes.annotate(text, (x, y), (6, 4), textcoords="offset points", fontsize=6.5, color=colour, arrowprops=tie)
    axes.set_xlabel(plain(title(cost)))
    axes.set_ylabel(plain(title(metric)))
    axes.set_title(plain(panel.title), fontsize="medium", loc="left")


def spread(labels: Sequence[Annotation]) -> None:
    """Move labels up or down until none lies on another, as far as a few lines allow."""
    placed: list[Bbox] = []
    for label in sorted(labels, key=lambda label: (label.xy[1], label.xy[0])):
        for lines in (0, *chain.from_iterable((n, -n) for n in range(1, MOST_LINES))):
            label.set_position((6, 4 + LINE_POINTS * lines))
            box = Text.get_window_extent(label)  # without its tie
            if not any(box.overlaps(other) for other in placed):
                break
        placed.append(box)
