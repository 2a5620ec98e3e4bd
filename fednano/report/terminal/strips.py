"""What each client did lately, as a strip of cells: training, sending or receiving, idle, down, crashed."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from fednano.core.events import (
    ClientDown,
    ClientUp,
    Event,
    LeaseReleased,
    RoundMerged,
    RoundSkipped,
    RunStarted,
    UpdateFolded,
    UpdateRefused,
    WorkDispatched,
)

ROUNDS = 8  # that a strip covers
KEPT = 512  # spans of a client: enough for more rounds than a strip has cells
StateSpan = tuple[float, float, str]


@dataclass(kw_only=True)
class _Track:
    """The spans of one client, oldest first; `open` holds since when it has had each lease."""

    up: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=KEPT))
    work: deque[StateSpan] = field(default_factory=lambda: deque(maxlen=KEPT))
    crashes: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    up_since: float | None = None
    open: dict[int, float] = field(default_factory=dict)

    def end(self, lease: int, t: float) -> None:
        """The work on a lease ended without an update that was accumulated."""
        if (since := self.open.pop(lease, None)) is not None:
            self.work.append((since, t, "training"))

    def spans(self, now: float) -> Iterator[StateSpan]:
        for start, stop in self.up:
            yield start, stop, "up"
        if self.up_since is not None:
            yield self.up_since, now, "up"
        yield from self.work
        for since in self.open.values():
            yield since, now, "training"


class Strips:
    """The strips of the first `most` clients. Feed it the events of a run in order."""

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._tracks: dict[str, _Track] = {}
        self._ends: deque[float] = deque([0.0], maxlen=ROUNDS + 1)  # of the last rounds
        self._now = 0.0

    @property
    def since(self) -> float:
        """Where the strips begin, in seconds on the run's clock."""
        return self._ends[0]

    @property
    def now(self) -> float:
        """Where the strips end."""
        return self._now

    def event(self, event: Event) -> None:
        self._now = max(self._now, event.t)
        match event:
            case RunStarted():
                for client in event.clients[: self._most]:
                    self._tracks.setdefault(client, _Track())
            case RoundMerged() | RoundSkipped():
                self._ends.append(event.t)
            case ClientUp() | ClientDown() | WorkDispatched() | UpdateFolded() | UpdateRefused() | LeaseReleased():
                if (track := self._tracks.get(event.client)) is not None:
                    _follow(track, event)

    def cells(self, client: str, width: int) -> list[str]:
        """What took most of the time of each of `width` cells: training, moving, idle or down.

        A cell in which the client crashed is crashed. Empty for a client without a strip, and before time has passed.
        """
        track, length = self._tracks.get(client), self._now - self.since
        if track is None or length <= 0 or width < 1:
            return []
        cell_s = length / width
        seconds = [{"up": 0.0, "training": 0.0, "moving": 0.0} for _ in range(width)]
        for start, stop, kind in track.spans(self._now):
            first, last = (int((t - self.since) / cell_s) for t in (max(start, self.since), stop))
            for k in range(first, min(last, width - 1) + 1):
                begins = self.since + k * cell_s
                seconds[k][kind] += max(0.0, min(stop, begins + cell_s) - max(start, begins))
        cells = [_most(held, cell_s) for held in seconds]
        for t in track.crashes:
            if t >= self.since:
                cells[min(int((t - self.since) / cell_s), width - 1)] = "crashed"
        return cells


def _most(held: dict[str, float], cell_s: float) -> str:
    worked = held["training"] + held["moving"]
    shares = {
        "training": held["training"],
        "moving": held["moving"],
        "idle": held["up"] - worked,
        "down": cell_s - max(held["up"], worked),
    }
    return max(shares, key=lambda state: shares[state])


def _follow(
    track: _Track, event: ClientUp | ClientDown | WorkDispatched | UpdateFolded | UpdateRefused | LeaseReleased
) -> None:
    match event:
        case ClientUp():
            track.up_since = event.t
        case ClientDown():
            if track.up_since is not None:
                track.up.append((track.up_since, event.t))
                track.up_since = None
            if event.exit == "crash":
                track.crashes.append(event.t)
                for lease in list(track.open):
                    track.end(lease, event.t)
        case WorkDispatched():
            track.open[event.lease] = event.t
        case UpdateFolded():
            sent = track.open.pop(event.lease, event.busy_from)
            track.work += [(min(sent, event.busy_from), event.busy_from, "moving")]
            track.work += [(start, stop, "training") for start, stop in event.trained]
            track.work += [(event.busy_until, event.t, "moving")]
        case UpdateRefused() | LeaseReleased():
            track.end(event.lease, event.t)
