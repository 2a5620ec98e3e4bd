"""What tells runs apart: the keys of their configurations that differ, and as few of them as suffice."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

ABSENT = ""
FIRST = "strategy.name"  # of several keys that tell groups apart equally well
APART = ("name", "resume", "checkpoint_every", "checkpoint_keep")  # keys that change nothing about what is learned
APART_BELOW = ("logger", "sweep")  # and all that stand below these


class Configured(Protocol):
    """A run with a configuration of flat keys, such as strategy.outer.lr."""

    @property
    def config(self) -> Mapping[str, Any]: ...


R = TypeVar("R", bound=Configured)


def differing(runs: Sequence[R], over: str) -> list[str]:
    """The keys whose values differ, names first, without the key `over` and those that always equal it."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    found = [
        key
        for key in keys
        if key not in (over, *APART)
        and key.partition(".")[0] not in APART_BELOW
        and len({text_of(run.config.get(key, ABSENT)) for run in runs}) > 1
        and not _follows(key, over, runs)
    ]
    return sorted(found, key=lambda key: (not key.endswith(".name"), key != FIRST))


def _follows(key: str, over: str, runs: Sequence[R]) -> bool:
    """Whether the runs that have a key, of more than one value of `over`, all have that value for it."""
    having = [run for run in runs if key in run.config]
    values = {text_of(run.config.get(over)) for run in having}
    return len(values) > 1 and all(run.config[key] == run.config.get(over) for run in having)


def telling(runs: Sequence[R], over: str = "seed") -> list[str]:
    """As few keys as tell the groups of runs apart that differ in `over` alone."""
    return parted(runs, over)[1]


def parted(runs: Sequence[R], over: str) -> tuple[dict[tuple[str, ...], list[R]], list[str]]:
    """The runs that differ in `over` alone, by what they share, and the keys that tell these groups apart."""
    keys = differing(runs, over)
    parts: dict[tuple[str, ...], list[R]] = {}
    for run in runs:
        parts.setdefault(tuple(text_of(run.config.get(key, ABSENT)) for key in keys), []).append(run)
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
    numbers = [i for i in range(len(keys)) if all(part[i] == text_of(ABSENT) or _is_number(part[i]) for part in parts)]
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


def word(key: str, value: Any) -> str:
    """A value that says of itself what it is: error_feedback, no error_feedback, or lr=0.7."""
    name = key.rpartition(".")[2]
    if isinstance(value, bool):
        return f"{'' if value else 'no '}{name}"
    if isinstance(value, int | float):
        return f"{name}={short(value)}"
    return short(value)


def short(value: Any) -> str:
    """A class by its own name, a number with at most six digits, everything else as it is."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value).rsplit(".", 1)[-1] if str(value).startswith("fednano.") else str(value)


def text_of(value: Any) -> str:
    """A value as what stands for it in sets, which take no lists; 1 and 1.0 are the same."""
    if isinstance(value, list):
        return f"[{', '.join(map(text_of, value))}]"
    return repr(int(value) if isinstance(value, float) and value.is_integer() else value)
