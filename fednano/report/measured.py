"""What an event log tells of the machines behind it: when they were up, how fast they were, a round's overhead."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import mean

from fednano.core.events import (
    ChaosEnacted,
    ClientDown,
    ClientUp,
    Event,
    RoundMerged,
    RoundSkipped,
    RoundStarted,
    UpdateFolded,
    UpdateRefused,
    WorkDispatched,
)

UpSpan = tuple[float, float, str]  # up from, up to, "drain" or "crash"
STRUCK = ("kill", "reclaim", "pause", "cut")  # what ends a node, whatever it holds


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Figures of an event log, in seconds on the run's clock.

    Args:
        windows: of each client, in order; the last may be endless. Who drained was there until its submission,
            half a step more or less.
        step_s: of each client that handed anything in, the mean inner step.
        down_s: likewise, from when it could have been given work to the beginning of that.
        up_s: likewise, from the end of the work to the fold.
        between_s: mean from the end of a round to the beginning of the next, where somebody was there meanwhile.
        rounds: how long each took, skipped ones included.
        begins: of the first round.
        ends: of the last.
        steps: inner steps that were merged, by client.
    """

    windows: Mapping[str, tuple[UpSpan, ...]]
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
    """Raises ValueError for an event log on which no work was given out, or no round merged."""
    read = _Reading()
    for event in events:
        read.add(event)
    if not read.merged:
        raise ValueError("no round was merged; there is nothing to replay")
    return read.measured()


@dataclass(kw_only=True)
class _Reading:
    """An event log read so far; times are those of its events."""

    windows: dict[str, list[UpSpan]] = field(default_factory=lambda: defaultdict(list))
    came: dict[str, float] = field(default_factory=dict)  # of who is up
    drained: dict[str, float] = field(default_factory=dict)  # until when who is up and has drained was there
    struck: set[str] = field(default_factory=set)
    began: dict[int, float] = field(default_factory=dict)  # by round
    idle: dict[str, float] = field(default_factory=dict)  # since when who is up could be given work
    asked: dict[int, float] = field(default_factory=dict)  # since when it could have been, by lease
    ended: float | None = None  # of the last round, where somebody was up
    gaps: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)
    ends: float = 0.0
    folded: dict[int, UpdateFolded] = field(default_factory=dict)
    merged: list[UpdateFolded] = field(default_factory=list)
    up_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    down_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, event: Event) -> None:
        match event:
            case ClientUp():
                self.came[event.client] = self.idle[event.client] = event.t
                self.struck.discard(event.client)
            case ClientDown():
                self._down(event)
            case ChaosEnacted() if event.action in STRUCK:
                self.struck.add(event.client)
            case RoundStarted():
                self.began[event.round] = event.t
                if self.ended is not None:
                    self.gaps.append(event.t - self.ended)
            case WorkDispatched():
                self.asked[event.lease] = max(self.began[event.round], self.idle.get(event.client, 0.0))
            case UpdateFolded():
                self._fold(event)
            case UpdateRefused():
                self.idle[event.client] = event.t
            case RoundMerged():
                self.merged += [self.folded[lease] for lease in event.leases]
                self._end(event.round, event.t)
            case RoundSkipped():
                self._end(event.round, event.t)

    def _down(self, event: ClientDown) -> None:
        drained = event.client in self.drained
        stop = self.drained.pop(event.client, event.t)
        # On the event log who held nothing has drained, whatever became of it.
        exit_ = "crash" if event.client in self.struck and not drained else event.exit
        self.windows[event.client].append((self.came.pop(event.client), stop, exit_))

    def _fold(self, event: UpdateFolded) -> None:
        client = event.client
        if event.lease not in self.asked:
            raise ValueError("no work was given out; there is nothing to replay")  # a centralized run's
        self.folded[event.lease] = event
        self.down_s[client].append(event.busy_from - self.asked[event.lease])
        self.up_s[client].append(event.t - event.busy_until)
        self.idle[client] = event.t
        if event.drained:
            # It would have been there for any part of another step.
            self.drained[client] = event.t + event.trained_s / event.steps / 2

    def _end(self, round_: int, t: float) -> None:
        self.rounds.append(t - self.began[round_])
        self.ends = t
        # Else the next round had to wait for somebody.
        self.ended = t if self.came.keys() - self.drained.keys() else None

    def measured(self) -> Measured:
        """What the event log told; windows that are open have no end."""
        open_ = {client: [(t, self.drained.get(client, math.inf), "drain")] for client, t in self.came.items()}
        busy, done, steps = (defaultdict[str, float](float), defaultdict[str, int](int), defaultdict[str, int](int))
        for update in self.folded.values():
            busy[update.client] += update.trained_s
            done[update.client] += update.steps
        for update in self.merged:
            steps[update.client] += update.steps
        return Measured(
            windows={c: (*self.windows[c], *open_.get(c, ())) for c in {**self.windows, **open_}},
            step_s={client: busy[client] / done[client] for client in done},
            down_s={client: mean(seconds) for client, seconds in self.down_s.items()},
            up_s={client: mean(seconds) for client, seconds in self.up_s.items()},
            between_s=mean(self.gaps) if self.gaps else 0.0,
            rounds=tuple(self.rounds),
            begins=min(self.began.values()),
            ends=self.ends,
            steps=dict(steps),
        )
