"""Runs grouped by what differs in their configurations, with spreads and paired differences over seeds."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t as student

from fednano.report.comparison.apart import ABSENT, differing, parted, text_of, word
from fednano.report.comparison.runs import RecordedRun

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over n values; `half` is half of its 95 % interval by Student's t, NaN for fewer than two values."""

    n: int
    mean: float
    spread: float
    half: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """`spread` is the sample's standard deviation, NaN for fewer than two values."""
        n = len(values)
        if n < 2:
            return cls(n=n, mean=fmean(values) if values else math.nan, spread=math.nan, half=math.nan)
        spread = stdev(values)
        reach = float(student.ppf(0.5 + CONFIDENCE / 2, n - 1))
        return cls(n=n, mean=fmean(values), spread=spread, half=reach * spread / math.sqrt(n))


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that differ by nothing but their seed. `label` holds the keys that tell groups apart."""

    label: Mapping[str, Any]
    runs: Mapping[str, RecordedRun]  # by seed

    @property
    def name(self) -> str:
        """Such as fedadam int4."""
        return " ".join(word(key, value) for key, value in self.label.items() if value != ABSENT) or "all"

    def values(self, metric: str) -> dict[str, float]:
        """The figures by seed, of the runs that have one."""
        found = {seed: run.figure(metric) for seed, run in self.runs.items()}
        return {seed: value for seed, value in found.items() if math.isfinite(value)}

    def lacks(self, metric: str) -> Counter[str]:
        """How many runs have no such figure, by the reason."""
        return Counter(lack for run in self.runs.values() if (lack := run.lack(metric)))

    def estimate(self, metric: str) -> Estimate:
        return Estimate.of(list(self.values(metric).values()))

    def beside(self, other: "Group", metric: str) -> Estimate:
        """The relative difference from another group, paired by seed; 0.01 is 1 % more."""
        mine, theirs = self.values(metric), other.values(metric)
        return Estimate.of([mine[seed] / theirs[seed] - 1 for seed in mine if theirs.get(seed)])


@dataclass(frozen=True, kw_only=True)
class Facet:
    """Groups that are compared with each other and, if there is one, with a `baseline` among them."""

    groups: Sequence[Group]
    baseline: Group | None = None
    title: str = ""


Repeated = Callable[[RecordedRun, RecordedRun], None]


def grouped(runs: Sequence[RecordedRun], over: str = "seed", repeated: Repeated = lambda *_: None) -> list[Group]:
    """Groups of runs that differ in `over` alone, labelled by as few keys as tell them apart.

    Of runs that do not differ at all the last one counts; `repeated` is called with each that is left out and the one
    that counts. Raises ValueError if no run has the key `over`.
    """
    if not any(over in run.config for run in runs):
        raise ValueError(f"--over must be a key of the runs' configurations, got {over}; use seed, or another key")
    parts, chosen = parted(runs, over)
    groups = []
    for members in parts.values():
        by_seed: dict[str, RecordedRun] = {}
        for run in members:
            seed = text_of(run.config.get(over))
            if seed in by_seed:
                repeated(by_seed[seed], run)
            by_seed[seed] = run
        groups.append(Group(label={key: members[0].config.get(key, ABSENT) for key in chosen}, runs=by_seed))
    return groups


def unnamed(groups: Sequence[Group]) -> list[str]:
    """The keys in which groups differ and that no label tells of: neither what a named choice implies, nor the same."""
    first = [next(iter(group.runs.values())) for group in groups]
    labels = {key for group in groups for key in group.label}
    sections = {key.partition(".")[0] for key in labels if key.endswith(".name")}
    within = {key for group in groups for key in differing(list(group.runs.values()), "")}  # such as the seed

    def column(key: str) -> tuple[str, ...]:
        return tuple(text_of(run.config.get(key, ABSENT)) for run in first)

    told = {column(key) for key in labels}
    found = [key for key in differing(first, "") if key.partition(".")[0] not in sections and key not in within]
    return [key for key in found if column(key) not in told]
