"""The history of a run, from its event log, for drawing: curves, rounds, and each client's windows and work."""

from array import array
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fednano.core.event_log import EventLog, from_record, read_whole
from fednano.core.events import (
    ClientDown,
    ClientUp,
    Evaluated,
    Event,
    RoundMerged,
    RoundSkipped,
    RunStarted,
    UpdateFolded,
    UpdateRefused,
    WorkDispatched,
)
from fednano.core.packed import Packed
from fednano.report.figures import Figures
from fednano.report.spent import TimeSpent
from fednano.report.updates import MergedUpdates

MAX_LANES = 64
SETTLE_EVERY = 16  # rounds
# The events that `History.draw` uses.
DRAWN = (
    RunStarted,
    ClientUp,
    ClientDown,
    WorkDispatched,
    UpdateFolded,
    UpdateRefused,
    RoundMerged,
    RoundSkipped,
    Evaluated,
)


@dataclass(frozen=True)
class Sample:
    """A measured value, with the tokens merged so far and the seconds on the run's clock."""

    tokens: int
    t: float
    value: float
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkBar:
    """Work of one client.

    `kind`: full, drained, discarded (its round was skipped), refused, lost (in a crash), open (no outcome yet).
    """

    start: float
    stop: float
    kind: str
    round: int
    steps: int
    note: str = ""


@dataclass
class SettledBars:
    """Work that no later event changes, in a fraction of the memory of as many `WorkBar`s."""

    numbers: Packed[tuple[float, float, int, int, int]] = field(  # start, stop, round, steps, index into `words`
        default_factory=lambda: Packed(lambda *numbers: numbers, "ddiiI")
    )
    words: dict[tuple[str, str], int] = field(default_factory=dict)  # (kind, note) → index

    def add(self, bar: WorkBar) -> None:
        told = self.words.setdefault((bar.kind, bar.note), len(self.words))
        self.numbers.add(bar.start, bar.stop, bar.round, bar.steps, told)

    def __iter__(self) -> Iterator[WorkBar]:
        return self.newest(len(self.numbers))

    def newest(self, most: int) -> Iterator[WorkBar]:
        """The last ones, `most` at most, oldest first."""
        words = list(self.words)
        for start, stop, round_, steps, told in self.numbers[max(0, len(self.numbers) - most) :]:
            kind, note = words[told]
            yield WorkBar(start=start, stop=stop, kind=kind, round=round_, steps=steps, note=note)


@dataclass(frozen=True, kw_only=True)
class RoundBar:
    """A finished round: `updates` accumulated, and `tokens` merged into the global model."""

    round: int
    t: float
    updates: int
    tokens: int
    merged: bool


def _round_bar(round: int, t: float, updates: int, tokens: int, merged: int) -> RoundBar:
    return RoundBar(round=round, t=t, updates=updates, tokens=tokens, merged=bool(merged))


@dataclass(kw_only=True)
class ClientLane:
    """One client's windows, its work of the last rounds by (lease,), and its crashes.

    Overlapped steps have the key (lease, 0). `bars` has the work of all rounds.
    """

    client: str
    windows: Packed[tuple[float, float]] = field(default_factory=lambda: Packed(lambda *span: span, "dd"))
    work: dict[tuple[int, ...], WorkBar] = field(default_factory=dict)
    settled: SettledBars = field(default_factory=SettledBars)
    crashes: "array[float]" = field(default_factory=lambda: array("d"))
    up_since: float | None = None
    open: set[tuple[int, ...]] = field(default_factory=set)  # keys of `work` without an outcome yet

    @property
    def bars(self) -> list[WorkBar]:
        """All work of the client; that of the last rounds comes last."""
        return [*self.settled, *self.work.values()]

    def settle(self, before: int) -> None:
        """Store the work of rounds below `before` compactly, unless its outcome is open."""
        for key in [key for key, bar in self.work.items() if bar.round < before and key not in self.open]:
            self.settled.add(self.work.pop(key))


@dataclass(kw_only=True)
class History:
    """Everything a report draws. Feed it an event log in order, then call `finish` once.

    Only the first MAX_LANES clients have lanes, so that memory does not grow with the work of all the others.
    """

    figures: Figures = field(default_factory=Figures)
    lanes: dict[str, ClientLane] = field(default_factory=dict)
    evals: Packed[Sample] = field(default_factory=lambda: Packed(Sample, "qddq"))
    losses: Packed[Sample] = field(default_factory=lambda: Packed(Sample, "qddq"))
    rounds: Packed[RoundBar] = field(default_factory=lambda: Packed(_round_bar, "qdqqB"))
    spent: TimeSpent = field(default_factory=TimeSpent)
    updates: MergedUpdates = field(default_factory=MergedUpdates)
    torn: bool = False
    tape_sha256: str = ""

    def add(self, event: Event) -> None:
        self.figures.add(event)
        self.draw(event)

    def draw(self, event: Event) -> None:
        """Like `add`, but leaves `figures` to another sink."""
        self.spent.add(event)
        self.updates.add(event)
        match event:
            case RunStarted():
                for client in event.clients:
                    self._lane(client)
            case ClientUp() | ClientDown() | WorkDispatched() | UpdateFolded() | UpdateRefused():
                lane = self._lane(event.client)
                if lane:
                    _draw(lane, event)
            case RoundMerged():
                self._settle(event.round)
                self.losses.add(event.tokens_total, event.t, event.train_loss, event.round)
                self.rounds.add(event.round, event.t, len(event.leases), event.tokens, True)
            case RoundSkipped():
                self._settle(event.round)
                self.rounds.add(event.round, event.t, event.updates, 0, False)
            case Evaluated():
                self.evals.add(event.tokens_total, event.t, event.val_bpb, event.round)

    def so_far(self) -> "History":
        """A finished copy of what is there now, while this one goes on; both have the same `figures`."""
        copy = replace(self, lanes=deepcopy(self.lanes), spent=deepcopy(self.spent))
        copy.finish()
        return copy

    def finish(self) -> None:
        """Close windows and work that are open at the last event; mark work of skipped rounds as discarded."""
        self.spent.finish(self.figures.t)
        skipped = {r.round for r in self.rounds if not r.merged}
        for lane in self.lanes.values():
            # The work of all rounds once more, since that of skipped rounds is drawn differently.
            settled, lane.settled = lane.settled, SettledBars()
            for bar in settled:
                discarded = bar.kind in ("full", "drained") and bar.round in skipped
                lane.settled.add(replace(bar, kind="discarded") if discarded else bar)
            if lane.up_since is not None:
                lane.windows.add(lane.up_since, self.figures.t)
                lane.up_since = None
            for key, span in lane.work.items():
                if span.kind == "open":
                    lane.work[key] = replace(span, stop=self.figures.t)
                elif span.kind in ("full", "drained") and span.round in skipped:
                    lane.work[key] = replace(span, kind="discarded")

    def _settle(self, ended: int) -> None:
        """Store what can no longer change, now and then: refusals of late updates come within the next rounds."""
        if ended % SETTLE_EVERY == 0:
            for lane in self.lanes.values():
                lane.settle(ended - SETTLE_EVERY)

    def _lane(self, client: str) -> ClientLane | None:
        if client not in self.lanes and len(self.lanes) < MAX_LANES:
            self.lanes[client] = ClientLane(client=client)
        return self.lanes.get(client)


def _draw(lane: ClientLane, event: ClientUp | ClientDown | WorkDispatched | UpdateFolded | UpdateRefused) -> None:
    match event:
        case ClientUp():
            lane.up_since = event.t
        case ClientDown():
            _down(lane, event)
        case WorkDispatched():
            key = (event.lease,)
            lane.work[key] = WorkBar(start=event.t, stop=event.t, kind="open", round=event.round, steps=event.steps)
            lane.open.add(key)
        case UpdateFolded():
            kind = "drained" if event.drained else "full"
            key = (event.lease,)
            *overlapped, (start, stop) = event.trained
            lane.work[key] = WorkBar(start=start, stop=stop, kind=kind, round=event.round, steps=event.steps)
            for start, stop in overlapped:
                lane.work[(*key, 0)] = WorkBar(
                    start=start, stop=stop, kind=kind, round=event.round, steps=event.steps, note="overlapped steps"
                )
            lane.open.discard(key)
        case UpdateRefused():
            _refuse(lane, event)


def _down(lane: ClientLane, event: ClientDown) -> None:
    if lane.up_since is not None:
        lane.windows.add(lane.up_since, event.t)
        lane.up_since = None
    if event.exit == "crash":
        lane.crashes.append(event.t)
        for key in lane.open:
            lane.work[key] = replace(lane.work[key], stop=event.t, kind="lost")
        lane.open.clear()


def _refuse(lane: ClientLane, event: UpdateRefused) -> None:
    key = (event.lease,)
    # Work already drawn as lost in a crash stays lost; only an update that came back counts as refused.
    if key in lane.open:
        note = f"{event.reason}: {event.cause}" if event.cause else event.reason
        lane.work[key] = replace(lane.work[key], stop=event.t, kind="refused", note=note)
        lane.open.discard(key)


def read_history(path: Path) -> History:
    """The history in an `events.jsonl`. An incomplete last line is ignored and sets `torn`.

    Raises DamagedLogError naming a line that is not an event, or not one that a run writes there.
    """
    history, event_log = History(), EventLog(None)

    def add(record: dict[str, Any]) -> bool:
        event = from_record(record)
        history.add(event)
        event_log.append(event)
        return True

    for whole in read_whole(path, add):
        history.torn = not whole
    history.finish()
    history.tape_sha256 = event_log.sha256()
    return history
