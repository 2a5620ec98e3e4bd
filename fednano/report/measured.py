"""The machines behind an event log: when they were up, how fast they were, and a round's overhead."""

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
    RunStarted,
    UpdateFolded,
    UpdateRefused,
    WorkDispatched,
)

UpSpan = tuple[float, float, str]  # up from, up to, "drain" or "crash"
STRUCK = ("kill", "reclaim", "pause", "cut")  # actions that end a node, whatever work it holds


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Figures of an event log, in seconds on the run's clock.

    Args:
        windows: of each client, in order; the last may be endless. A client that drained was up until its submission,
            half a step more or less.
        step_s: mean inner step of each client that submitted anything.
        down_s: mean time of each such client from when it could have been given work to the beginning of that work,
            without tasks that came while it trained on.
        up_s: mean time of each such client from the end of its work until the update was accumulated.
        down_bytes, up_bytes: mean bytes of the messages that took these times.
        between_s: mean time from the end of a round to the beginning of the next, if a client was up meanwhile.
        rounds: duration of each round, including skipped ones.
        begins: time of the first round's beginning.
        ends: time of the last round's end.
        steps: merged inner steps by client.
        unit: what a round is called: merge where clients never wait for one, round otherwise.
    """

    windows: Mapping[str, tuple[UpSpan, ...]]
    step_s: Mapping[str, float]
    down_s: Mapping[str, float]
    up_s: Mapping[str, float]
    down_bytes: Mapping[str, float]
    up_bytes: Mapping[str, float]
    between_s: float
    rounds: tuple[float, ...]
    begins: float
    ends: float
    steps: Mapping[str, int]
    unit: str = "round"

    def goodput(self, step_s: Mapping[str, float]) -> float:
        """Merged steps ÷ steps that the clients could have taken while up, from the first round on."""
        possible = sum(
            max(0.0, min(stop, self.ends) - max(start, self.begins)) / step_s[client]
            for client, windows in self.windows.items()
            if client in step_s
            for start, stop, _ in windows
        )
        return sum(self.steps.values()) / possible if possible else math.nan


def measure(events: Iterable[Event]) -> Measured:
    """The figures of an event log.

    Raises ValueError for an event log without any work given out, or without a merged round.
    """
    read = _Reading()
    for event in events:
        read.add(event)
    if not read.merged:
        raise ValueError("no round was merged; there is nothing to replay")
    return read.measured()


@dataclass(kw_only=True)
class _Reading:
    """The part of an event log read so far; times are those of its events."""

    unit: str = "round"
    windows: dict[str, list[UpSpan]] = field(default_factory=lambda: defaultdict(list))
    came: dict[str, float] = field(default_factory=dict)  # since when the clients that are up have been up
    drained: dict[str, float] = field(default_factory=dict)  # until when clients that drained were up
    struck: set[str] = field(default_factory=set)
    began: dict[int, float] = field(default_factory=dict)  # by round
    idle: dict[str, float] = field(default_factory=dict)  # since when clients that are up could be given work
    asked: dict[int, float] = field(default_factory=dict)  # since when the work could have been given out, by lease
    ended: float | None = None  # end of the last round, if a client was up then
    gaps: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)
    ends: float = 0.0
    folded: dict[int, UpdateFolded] = field(default_factory=dict)
    merged: list[UpdateFolded] = field(default_factory=list)
    up_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    down_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    sent: dict[int, int] = field(default_factory=dict)  # bytes of each task, by lease
    down_bytes: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    up_bytes: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, event: Event) -> None:
        match event:
            case RunStarted():
                self.unit = event.unit
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
                self.sent[event.lease] = event.bytes
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
        # The event log says "drain" for any client that held no work, however it ended.
        exit_ = "crash" if event.client in self.struck and not drained else event.exit
        self.windows[event.client].append((self.came.pop(event.client), stop, exit_))

    def _fold(self, event: UpdateFolded) -> None:
        client = event.client
        if event.lease not in self.asked:
            raise ValueError("no work was given out; there is nothing to replay")  # a centralized run's
        self.folded[event.lease] = event
        # A client that trains on until its task is there ends its step first, so nobody knows when the task came.
        hidden = event.ahead and event.busy_from - event.ahead[1] < event.trained_s / event.steps
        if not hidden or client not in self.down_s:
            self.down_s[client].append(event.busy_from - self.asked[event.lease])
            self.down_bytes[client].append(self.sent[event.lease])
        self.up_s[client].append(event.t - event.busy_until)
        self.up_bytes[client].append(event.bytes)
        self.idle[client] = event.t
        if event.drained:
            # It stayed up for an unknown part of another step: half of it on average.
            self.drained[client] = event.t + event.trained_s / event.steps / 2

    def _end(self, round_: int, t: float) -> None:
        self.rounds.append(t - self.began[round_])
        self.ends = t
        # Otherwise the next round had to wait for a client.
        self.ended = t if self.came.keys() - self.drained.keys() else None

    def measured(self) -> Measured:
        """The figures read so far; open windows have no end."""
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
            down_bytes={client: mean(sizes) for client, sizes in self.down_bytes.items()},
            up_bytes={client: mean(sizes) for client, sizes in self.up_bytes.items()},
            between_s=mean(self.gaps) if self.gaps else 0.0,
            rounds=tuple(self.rounds),
            begins=min(self.began.values()),
            ends=self.ends,
            steps=dict(steps),
            unit=self.unit,
        )
