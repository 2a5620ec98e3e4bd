"""Runs grouped by what differs in their configurations, with spreads and paired differences over seeds."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t as student

from fednano.report.comparison.runs import RecordedRun

CONFIDENCE = 0.95
ABSENT = ""
FIRST = "strategy.name"  # of several keys that tell groups apart equally well
APART = ("name", "resume", "checkpoint_every", "checkpoint_keep")  # keys that change nothing about what is learned
APART_BELOW = ("logger", "sweep")  # and all that stand below these


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
        return " ".join(_word(key, value) for key, value in self.label.items() if value != ABSENT) or "all"

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


def differing(runs: Sequence[RecordedRun], over: str) -> list[str]:
    """The keys whose values differ, names first, without the key `over` and those that always equal it."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    found = [
        key
        for key in keys
        if key not in (over, *APART)
        and key.partition(".")[0] not in APART_BELOW
        and len({_text(run.config.get(key, ABSENT)) for run in runs}) > 1
        and not _follows(key, over, runs)
    ]
    return sorted(found, key=lambda key: (not key.endswith(".name"), key != FIRST))


def _follows(key: str, over: str, runs: Sequence[RecordedRun]) -> bool:
    """Whether the runs that have a key, of more than one value of `over`, all have that value for it."""
    having = [run for run in runs if key in run.config]
    values = {_text(run.config.get(over)) for run in having}
    return len(values) > 1 and all(run.config[key] == run.config.get(over) for run in having)


Repeated = Callable[[RecordedRun, RecordedRun], None]


def grouped(runs: Sequence[RecordedRun], over: str = "seed", repeated: Repeated = lambda *_: None) -> list[Group]:
    """Groups of runs that differ in `over` alone, labelled by as few keys as tell them apart.

    Of runs that do not differ at all the last one counts; `repeated` is called with each that is left out and the one
    that counts. Raises ValueError if no run has the key `over`.
    """
    if not any(over in run.config for run in runs):
        raise ValueError(f"--over must be a key of the runs' configurations, got {over}; use seed, or another key")
    parts, chosen = _parted(runs, over)
    groups = []
    for members in parts.values():
        by_seed: dict[str, RecordedRun] = {}
        for run in members:
            seed = _text(run.config.get(over))
            if seed in by_seed:
                repeated(by_seed[seed], run)
            by_seed[seed] = run
        groups.append(Group(label={key: members[0].config.get(key, ABSENT) for key in chosen}, runs=by_seed))
    return groups


def telling(runs: Sequence[RecordedRun], over: str = "seed") -> list[str]:
    """As few keys as tell the groups of runs apart that differ in `over` alone."""
    return _parted(runs, over)[1]


def unnamed(groups: Sequence[Group]) -> list[str]:
    """The keys in which groups differ and that no label tells of: those outside of the sections of named keys."""
    sections = {key.partition(".")[0] for group in groups for key in group.label}
    first = [next(iter(group.runs.values())) for group in groups]
    within = {key for group in groups for key in differing(list(group.runs.values()), "")}  # such as the seed
    return [key for key in differing(first, "") if key.partition(".")[0] not in sections and key not in within]


def _parted(runs: Sequence[RecordedRun], over: str) -> tuple[dict[tuple[str, ...], list[RecordedRun]], list[str]]:
    """The runs that differ in `over` alone, by what they share, and the keys that tell these groups apart."""
    keys = differing(runs, over)
    parts: dict[tuple[str, ...], list[RecordedRun]] = {}
    for run in runs:
        parts.setdefault(tuple(_text(run.config.get(key, ABSENT)) for key in keys), []).append(run)
    return parts, _telling(list(parts), keys)


def _telling(parts: Sequence[tuple[str, ...]], keys: Sequence[str]) -> list[str]:
    """As few keys as tell the groups apart: at each step the one that tells most of them apart, names before others."""
    chosen: list[int] = []

    def told(indices: Sequence[int]) -> int:
        return len({tuple(part[i] for i in indices) for part in parts})

    for named in (True, False):
        pool = [i for i, key in enumerate(keys) if key.endswith(".name") == named]
        while pool:
            best = max(pool, key=lambda i: told([*chosen, i]))
            if told([*chosen, best]) == told(chosen):
                break
            chosen.append(best)
    # One number that was drawn at random tells most runs apart; the others that were drawn with it say as much.
    numbers = [i for i in range(len(keys)) if all(part[i] == _text(ABSENT) or _is_number(part[i]) for part in parts)]
    if len(parts) > 2 and any(2 * told([i]) > len(parts) for i in chosen if i in numbers):
        columns = [[part[i] for part in parts] for i in chosen]
        for i in numbers:
            if told([i]) > 2 and (column := [part[i] for part in parts]) not in columns:
                chosen.append(i)
                columns.append(column)
    return [keys[i] for i in chosen]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _word(key: str, value: Any) -> str:
    """A value that says of itself what it is: error_feedback and no error_feedback in place of True and False."""
    if isinstance(value, bool):
        return f"{'' if value else 'no '}{key.rpartition('.')[2]}"
    return short(value)


def short(value: Any) -> str:
    """A class by its own name, a number with at most six digits, everything else as it is."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value).rsplit(".", 1)[-1] if str(value).startswith("fednano.") else str(value)


def _text(value: Any) -> str:
    """A value as what stands for it in sets, which take no lists; 1 and 1.0 are the same."""
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return repr(int(value) if isinstance(value, float) and value.is_integer() else value)
