"""Running figures from events: the run's totals and one record per client.

Memory grows with the clients and with the work in flight, not with the rounds.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from fednano.core.events import (
    ClientDown,
    ClientUp,
    Evaluated,
    Event,
    LeaseGranted,
    LeaseReleased,
    RoundMerged,
    RoundSkipped,
    RunEnded,
    RunStarted,
    UpdateFolded,
    UpdateRefused,
    WorkDispatched,
)
from fednano.report import units

RowSpans = tuple[tuple[int, int, int], ...]  # (row, token, stop), as in LeaseGranted


@dataclass(kw_only=True)
class ClientFigures:
    """Figures of one client. `tokens`, `steps`, `rows` and `updates` count work merged into the global model."""

    name: str
    up_since: float | None = None
    up_s: float = 0.0
    exit: str | None = None  # how it last went down; None while it is up and before it first came up
    working: bool = False
    loss: float | None = None
    busy_s: float = 0.0
    submitted: int = 0  # steps of all updates that were accumulated, which took `busy_s`
    steps: int = 0
    tokens: int = 0
    rows: int = 0
    updates: int = 0
    drains: int = 0
    crashes: int = 0
    refused: int = 0
    bytes_up: int = 0
    bytes_down: int = 0

    @property
    def state(self) -> str:
        """training, idle, down or crashed, as of the last event."""
        if self.up_since is None:
            return "crashed" if self.exit == "crash" else "down"
        return "training" if self.working else "idle"

    def up_seconds(self, now: float) -> float:
        """Seconds up until `now`, an open window included."""
        return self.up_s + (max(0.0, now - self.up_since) if self.up_since is not None else 0.0)


@dataclass(kw_only=True)
class Figures:
    """Totals of a run so far; `add` takes the events in the order of the event log."""

    run: RunStarted | None = None
    end: RunEnded | None = None
    t: float = 0.0
    clients: dict[str, ClientFigures] = field(default_factory=dict)
    merged: int = 0
    skipped: int = 0
    steps: int = 0
    tokens: int = 0
    train_loss: float | None = None
    first_eval: Evaluated | None = None
    last_eval: Evaluated | None = None
    wall_train_s: float = 0.0
    refusals: Counter[str] = field(default_factory=Counter)  # updates by the reason of their refusal
    causes: dict[str, str] = field(default_factory=dict)  # reason → client and cause of the last such refusal
    _spans: dict[int, RowSpans] = field(default_factory=dict)  # of the leases in force
    _folded: dict[int, tuple[UpdateFolded, int]] = field(default_factory=dict)  # by lease, with rows, until merged

    @property
    def rounds(self) -> int:
        """Rounds that ended, whether merged or skipped."""
        return self.merged + self.skipped

    @property
    def diverged(self) -> bool:
        """Whether the model is not finite any more. A run with runtime.compute=analytic has none, and never was."""
        first, last = self.first_eval, self.last_eval
        return bool(first and last and units.measured(first.val_bpb) and not units.measured(last.val_bpb))

    @property
    def bpb(self) -> str:
        """The last validation bits per byte as text; a dash before any."""
        if self.last_eval is None:
            return "–"
        return units.DIVERGED if self.diverged else units.fixed(self.last_eval.val_bpb)

    @property
    def unit(self) -> str:
        """What a round is called: merge where clients never wait for one, round otherwise."""
        return self.run.unit if self.run else "round"

    @property
    def plan(self) -> str:
        """What the run is to do: "12 rounds, 25 local steps a round", "60 merges, 10 local steps a task"."""
        run = self.run
        if run is None:
            return ""
        work = units.plural(run.rounds, run.unit) if run.rounds else f"{units.count(run.tokens_planned)} tokens"
        task = "round" if run.unit == "round" else "task"
        return f"{work}, {run.local_steps} local steps a {task}" if run.clients else work

    @property
    def progress(self) -> tuple[int, int]:
        """(done, planned) in rounds, or in tokens if only a budget ends the run."""
        run = self.run
        return (self.tokens, run.tokens_planned) if run and not run.rounds else (self.rounds, run.rounds if run else 0)

    def sum(self, name: str) -> int:
        """The sum over the clients of one of their counters, such as `bytes_up`."""
        return sum(getattr(client, name) for client in self.clients.values())

    def goodput(self) -> float | None:
        """Steps merged so far ÷ steps that the clients could have taken while up, at the speeds that they showed.

        A client that has submitted nothing counts with the mean speed. None before any update. The figure of a
        finished run comes from the speeds of its machines, and is in its summary.
        """
        speeds = {c.name: c.submitted / c.busy_s for c in self.clients.values() if c.busy_s > 0}
        if not speeds:
            return None
        mean = sum(speeds.values()) / len(speeds)
        possible = sum(c.up_seconds(self.t) * speeds.get(c.name, mean) for c in self.clients.values())
        return self.steps / possible if possible else None

    def client(self, name: str) -> ClientFigures:
        if name not in self.clients:
            self.clients[name] = ClientFigures(name=name)
        return self.clients[name]

    def add(self, event: Event) -> None:
        self.t = max(self.t, event.t)
        match event:
            case LeaseGranted():  # the three most frequent kinds come first
                self._spans[event.lease] = event.spans
            case WorkDispatched():
                client = self.client(event.client)
                client.working = True
                client.bytes_down += event.bytes
            case UpdateFolded():
                self._accumulate(event)
            case ClientUp():
                self._up(event)
            case ClientDown():
                self._down(event)
            case LeaseReleased():
                self._spans.pop(event.lease, None)
                self.client(event.client).working = False
            case UpdateRefused():
                client = self.client(event.client)
                client.refused += 1
                self.refusals[event.reason] += 1
                if event.cause:
                    self.causes[event.reason] = f"{event.client}: {event.cause}"
                client.working = False
            case _:
                self._add_for_all(event)

    def _add_for_all(self, event: Event) -> None:
        """Add an event that names no single client."""
        match event:
            case RunStarted():
                self.run = event
                for name in event.clients:
                    self.client(name)
            case RoundMerged():
                self._merge(event)
            case RoundSkipped():
                self.skipped += 1
                for lease in [lease for lease, (update, _) in self._folded.items() if update.round == event.round]:
                    del self._folded[lease]
            case Evaluated():
                self.first_eval = self.first_eval or event
                self.last_eval = event
            case RunEnded():
                self.end = event

    def _up(self, event: ClientUp) -> None:
        client = self.client(event.client)
        client.up_since = event.t
        client.exit = None

    def _down(self, event: ClientDown) -> None:
        client = self.client(event.client)
        client.up_s = client.up_seconds(event.t)
        client.up_since = None
        client.exit = event.exit
        if event.exit == "crash":
            client.crashes += 1
            client.working = False
        else:
            client.drains += 1

    def _accumulate(self, event: UpdateFolded) -> None:
        client = self.client(event.client)
        client.working = False
        client.loss = event.train_loss
        client.bytes_up += event.bytes
        client.busy_s += event.trained_s
        client.submitted += event.steps
        rows = rows_before(self._spans.pop(event.lease, ()), event.row)
        if event.left:
            rows -= rows_before(event.left, event.row)
        self._folded[event.lease] = event, rows

    def _merge(self, event: RoundMerged) -> None:
        self.merged += 1
        self.steps += event.steps
        self.tokens = event.tokens_total
        self.train_loss = event.train_loss
        self.wall_train_s += event.wall_train_s
        for lease in event.leases:  # an update of a fragment may have waited for a later round
            if (held := self._folded.pop(lease, None)) is None:
                continue
            update, rows = held
            client = self.client(update.client)
            client.updates += 1
            client.steps += update.steps
            client.tokens += update.tokens
            client.rows += rows


def rows_before(spans: RowSpans, row: int) -> int:
    """Number of a lease's rows that lie wholly before stream row `row`."""
    return sum([max(0, min(stop, row) - first) for first, _, stop in spans])


def figures_of(events: Iterable[Event]) -> Figures:
    """The figures of a whole event log."""
    figures = Figures()
    for event in events:
        figures.add(event)
    return figures
