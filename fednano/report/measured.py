"""What a tape tells of the machines behind it: when they were there, how fast they were, what a round cost beside."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from fednano.events import (
    ClientDown,
    ClientUp,
    Event,
    RoundMerged,
    RoundSkipped,
    RoundStarted,
    UpdateFolded,
    WorkDispatched,
)

Span = tuple[float, float, str]  # up from, up to, "drain" or "crash"


@dataclass(frozen=True)
class Measured:
    """Figures of a tape, in seconds on the run's clock.

    Args:
        windows: of each client, in order; the last may be endless.
        step_s: of each client that handed anything in, the median inner step.
        down_s: likewise, from the dispatch of a task to the beginning of its work.
        up_s: likewise, from the end of the work to the fold.
        between_s: median from the end of a round to the beginning of the next.
        rounds: how long each took, skipped ones included.
        begins: of the first round.
        ends: of the last.
        steps: inner steps that were merged, by client.
    """

    windows: Mapping[str, tuple[Span, ...]]
    step_s: Mapping[str, float]
    down_s: Mapping[str, float]
    up_s: Mapping[str, float]
    between_s: float
    rounds: tuple[float, ...]
    begins: float
    ends: float
    steps: Mapping[str, int]

    def goodput(self, step_s: Mapping[str, float]) -> float:
        """Steps merged ÷ steps that the clients could have done while they were up, from the first round on."""
        possible = sum(
            max(0.0, min(stop, self.ends) - max(start, self.begins)) / step_s[client]
            for client, windows in self.windows.items()
            if client in step_s
            for start, stop, _ in windows
        )
        return sum(self.steps.values()) / possible if possible else math.nan


def measure(events: Iterable[Event]) -> Measured:
    """Raises ValueError for a tape without a round that was merged."""
    windows: dict[str, list[Span]] = defaultdict(list)
    came: dict[str, float] = {}
    sent: dict[int, float] = {}
    began: dict[int, float] = {}
    ended: list[tuple[int, float]] = []
    seconds: dict[str, dict[str, list[float]]] = {key: defaultdict(list) for key in ("step", "down", "up")}
    folded: dict[int, tuple[str, int]] = {}
    steps: dict[str, int] = defaultdict(int)
    for event in events:
        match event:
            case ClientUp():
                came[event.client] = event.t
            case ClientDown():
                windows[event.client].append((came.pop(event.client), event.t, event.exit))
            case RoundStarted():
                began[event.round] = event.t
            case WorkDispatched():
                sent[event.lease] = event.t
            case UpdateFolded():
                seconds["step"][event.client].append((event.busy_until - event.busy_from) / event.steps)
                seconds["down"][event.client].append(event.busy_from - sent[event.lease])
                seconds["up"][event.client].append(event.t - event.busy_until)
                folded[event.lease] = event.client, event.steps
            case RoundMerged():
                ended.append((event.round, event.t))
                for lease in event.leases:
                    client, done = folded[lease]
                    steps[client] += done
            case RoundSkipped():
                ended.append((event.round, event.t))
    for client, t in came.items():
        windows[client].append((t, math.inf, "drain"))
    if not steps:
        raise ValueError("no round was merged; there is nothing to replay")
    gaps = [began[round_ + 1] - t for round_, t in ended if round_ + 1 in began]
    medians = {key: {c: median(values) for c, values in of.items()} for key, of in seconds.items()}
    return Measured(
        windows={client: tuple(spans) for client, spans in windows.items()},
        step_s=medians["step"],
        down_s=medians["down"],
        up_s=medians["up"],
        between_s=median(gaps) if gaps else 0.0,
        rounds=tuple(t - began[round_] for round_, t in ended),
        begins=min(began.values()),
        ends=max(t for _, t in ended),
        steps=dict(steps),
    )
