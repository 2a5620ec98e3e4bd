"""The report's parts on the clients' work: what their time went into, and what their updates were like."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fednano.report import units
from fednano.report.history import History
from fednano.report.spent import TimeSpent
from fednano.report.updates import Merged
from fednano.report.web import svg
from fednano.report.web.svg import Chart, Frame

SHORT = Frame(width=540, height=190)
TELLING = 0.1  # share of the clients' time from which on a loss is worth a hint
WORDS = {
    "merged": "training, merged",
    "transfers": "transfers",
    "waiting": "waiting for a task",
    "lost": "lost work",
    "unfinished": "unfinished at the end",
}
CAUSES = {
    "crash": "crashes",
    "left": "leaving without submitting",
    "refused": "refused updates",
    "expired": "expired leases",
    "skipped": "skipped rounds",
}
HINTS = {
    "transfers": "Longer rounds (strategy.local_steps), a smaller codec (codec=int4) or overlapped steps "
    "(round.overlap) leave more time for training.",
    "waiting": "Clients wait for slower ones, for others to come, or because a window is too short for one more round. "
    "round.local_steps=dynamic gives slower clients fewer steps, strategy.grace with strategy.late=next ends rounds "
    "sooner, and shorter rounds (strategy.local_steps) fit into more windows.",
    "lost": "Shorter rounds (strategy.local_steps) lose less work when a client leaves. The table below and the "
    "timeline show whose work it was.",
}


@dataclass(frozen=True)
class TimeShare:
    """A share of the clients' time up: its name in the style sheet, what it went into, and as a duration."""

    name: str
    words: str
    share: float
    duration: str

    @property
    def percent(self) -> str:
        return units.percent(self.share)


@dataclass(frozen=True, kw_only=True)
class Time:
    """What the clients' time went into; `hint` says how to lose less, empty if little is lost."""

    parts: tuple[TimeShare, ...]
    hint: str


def time_section(history: History) -> Time | None:
    """The section; None if no client was up."""
    spent = history.spent
    up_s = spent.up_s
    if up_s <= 0.0:
        return None
    seconds = {name: spent.lost_s if name == "lost" else getattr(spent, name) for name in WORDS}
    parts = tuple(
        TimeShare(name, _words(name, spent), seconds[name] / up_s, units.duration(max(0.0, seconds[name])))
        for name in WORDS
        if name != "unfinished" or seconds[name] > 0.0
    )
    return Time(parts=parts, hint=_hint({name: seconds[name] / up_s for name in HINTS}))


def _words(name: str, spent: TimeSpent) -> str:
    worst = sorted(spent.lost, key=lambda cause: -spent.lost[cause])
    causes = [CAUSES[cause] for cause in worst if spent.lost[cause] > 0.0]
    return f"{WORDS[name]} ({', '.join(causes)})" if name == "lost" and causes else WORDS[name]


def _hint(shares: Mapping[str, float]) -> str:
    worst = max(shares, key=lambda name: shares[name])
    if shares[worst] < TELLING:
        return ""
    begins = {"transfers": "Transfers take", "waiting": "Waiting takes", "lost": "Lost work takes"}[worst]
    return f"{begins} {units.percent(shares[worst])} of the time in which clients were up. {HINTS[worst]}"


def updates_charts(history: History, summary: Mapping[str, Any]) -> list[tuple[str, str, Chart | None]]:
    """(title, what it is, chart) for each figure of the updates that this run has; empty without any."""
    merges, called = history.updates.merges, history.figures.unit
    if not merges or not any(math.isfinite(merge.norm) for merge in merges):
        return []

    def chart(value: Callable[[Merged], float], words: str, digits: int = 3) -> Chart | None:
        points = [
            (float(m.round), value(m), f"{called} {m.round}: {units.fixed(value(m), digits)} {words}") for m in merges
        ]
        known = [point for point in points if math.isfinite(point[1])]
        return svg.curve(known, SHORT, called, time_axis=False) if known else None

    found = [("Norm of the updates", f"weighted mean of a {called}", chart(lambda m: m.mean_norm, "on average"))]
    if _adds_up(summary) and (cosine := chart(lambda m: m.cosine, "between two updates")):
        found.append(("Cosine between clients' updates", "1: all say the same; 0: unrelated", cosine))
    else:
        found.append(("Norm of the merged update", "", chart(lambda m: m.norm, "")))
    if any(merge.stalest for merge in merges):
        words = "merges since the base version"
        found.append(("Staleness", f"mean, in {words}", chart(lambda m: m.staleness, words, 2)))
    return found


def _adds_up(summary: Mapping[str, Any]) -> bool:
    """Whether a merged update is the weighted sum of what the clients sent, so that its norm tells how they agree."""
    method = summary.get("method") or {}
    return method.get("merging") == "Mean" and "dp" not in method
