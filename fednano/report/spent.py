"""What clients spent their time up on: work that was merged, work that was lost, transfers, and waiting."""

from collections import defaultdict
from dataclasses import dataclass, field

from fednano.core.events import (
    ClientDown,
    ClientUp,
    Event,
    RoundMerged,
    RoundSkipped,
    UpdateFolded,
    UpdateRefused,
    WorkDispatched,
)

EXPIRED, REFUSED, SKIPPED, LEFT = "expired", "refused", "skipped", "left"


@dataclass(kw_only=True)
class _Task:
    lease: int
    given: float


@dataclass(kw_only=True)
class _Client:
    """A client that is up. It has computed until `computed`, and its last update was in at `submitted`."""

    name: str
    computed: float
    submitted: float
    task: _Task | None = None


@dataclass(kw_only=True)
class TimeSpent:
    """Seconds on the run's clock, summed over the clients; `add` takes events in the order of the event log.

    Time up is `merged` + `transfers` + `waiting` + `unfinished` + all of `lost`. Transfers count as far as no
    overlapped steps cover them. Memory grows with the clients and with the work in flight.

    Args:
        merged: computing updates that were merged.
        transfers: getting tasks and submitting updates.
        waiting: without a task, also if none fits into the rest of a window.
        unfinished: on what was neither merged nor lost when the run ended.
        lost: on work that was not merged, transfers included, by cause: crash, left (without submitting), refused,
            expired (its lease), skipped (its round was). Of skipped rounds only the time computing.
    """

    merged: float = 0.0
    transfers: float = 0.0
    waiting: float = 0.0
    unfinished: float = 0.0
    lost: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _up: dict[str, _Client] = field(default_factory=dict)
    # lease → round, seconds; neither merged nor lost
    _computed: dict[int, tuple[int, float]] = field(default_factory=dict)
    # client → its last lost lease, cause, seconds
    _left: dict[str, tuple[int, str, float]] = field(default_factory=dict)

    @property
    def up_s(self) -> float:
        """All of the clients' time up, once the run has ended."""
        return self.merged + self.transfers + self.waiting + self.unfinished + self.lost_s

    @property
    def lost_s(self) -> float:
        """Seconds lost by all causes."""
        return sum(self.lost.values())

    def add(self, event: Event) -> None:
        match event:
            case WorkDispatched():
                if client := self._up.get(event.client):
                    self._give_up(client, event.t, EXPIRED)
                    client.task = _Task(lease=event.lease, given=event.t)
            case UpdateFolded():
                self._accumulate(event)
            case UpdateRefused():
                client = self._up.get(event.client)
                if client and client.task and client.task.lease == event.lease:
                    self._give_up(client, event.t, REFUSED)
            case ClientUp():
                self._up[event.client] = _Client(name=event.client, computed=event.t, submitted=event.t)
            case ClientDown():
                if client := self._up.pop(event.client, None):
                    self._give_up(client, event.t, "crash" if event.exit == "crash" else LEFT)
                    self._idle(client, event.t, event.t)
            case RoundMerged():
                for lease in event.leases:
                    self.merged += self._computed.pop(lease, (0, 0.0))[1]
            case RoundSkipped():
                for lease in [lease for lease, (round_, _) in self._computed.items() if round_ == event.round]:
                    self.lost[SKIPPED] += self._computed.pop(lease)[1]

    def finish(self, t: float) -> None:
        """Count what is open when the run ends at `t`; once."""
        for client in self._up.values():
            if task := client.task:
                self._idle(client, task.given, t)
                self.unfinished += t - max(task.given, client.computed)
            else:
                self._idle(client, t, t)
        self.unfinished += sum(seconds for _, seconds in self._computed.values())
        self._up.clear()
        self._computed.clear()

    def _idle(self, client: _Client, until: float, now: float) -> None:
        """Count the time from its last step `until` it got a task, of which it knew `now`."""
        until, sent = min(until, now), min(client.submitted, now)
        self.transfers += max(0.0, sent - client.computed)
        self.waiting += max(0.0, until - max(sent, client.computed))

    def _give_up(self, client: _Client, t: float, cause: str) -> None:
        """Count the task in progress as lost at `t`; does nothing without one."""
        if (task := client.task) is None:
            return
        self._idle(client, task.given, t)
        seconds = max(0.0, t - max(task.given, client.computed))
        self.lost[cause] += seconds
        self._left[client.name] = task.lease, cause, seconds
        client.computed = client.submitted = t
        client.task = None

    def _accumulate(self, event: UpdateFolded) -> None:
        self._computed[event.lease] = event.round, event.trained_s
        client = self._up.get(event.client)
        if client and client.task and client.task.lease == event.lease:
            if event.ahead:
                client.computed = max(client.computed, event.ahead[1])
            self._idle(client, client.task.given, event.t)
            self.transfers += max(0.0, event.busy_from - max(client.task.given, client.computed))
            client.computed, client.submitted, client.task = event.busy_until, event.t, None
            return
        lease, cause, seconds = self._left.get(event.client, (None, "", 0.0))
        if lease == event.lease:  # the update was on its way when its client left
            del self._left[event.client]
            self.lost[cause] -= seconds
            self.transfers += seconds - (event.busy_until - event.busy_from)
