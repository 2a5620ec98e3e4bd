"""Energy, carbon and cost: pure functions on spans of time, and the machines' usage as read from the events.

A client's power P(t) is its training watts while it computes, its idle watts while it is on but does not, and 0 while
it is off. E = ∫P dt, gCO₂ = ∫P·intensity dt / 3.6e6 (W, s, g/kWh), cost likewise.
"""

from array import array
from bisect import bisect_right
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fednano.core.events import (
    ClientDown,
    ClientUp,
    Event,
    LeaseGranted,
    LeaseReleased,
    RunStarted,
    UpdateFolded,
    UpdateRefused,
    WorkDispatched,
)
from fednano.traces.trace import Trace

Spans = NDArray[np.float64]  # (n, 2) start and stop in seconds, ascending and disjoint

J_PER_KWH = 3.6e6
ONE = Trace([0.0], [1.0])


@dataclass(frozen=True)
class Power:
    """Power of one client that is on, in watts: while idle and while training."""

    idle_w: float
    train_w: float


@dataclass(frozen=True)
class Signals:
    """Carbon intensity (g/kWh) and price (per kWh) at a client's site, on the run's clock; None if unknown."""

    carbon: Trace | None = None
    price: Trace | None = None


@dataclass(frozen=True, kw_only=True)
class Consumption:
    """Machine seconds on and training, kWh, grams of CO₂ and cost; a value without a signal is None."""

    on_s: float = 0.0
    train_s: float = 0.0
    kwh: float = 0.0
    co2_g: float | None = 0.0
    cost: float | None = 0.0

    def __add__(self, other: "Consumption") -> "Consumption":
        def added(name: str) -> float | None:
            a, b = getattr(self, name), getattr(other, name)
            return None if a is None or b is None else a + b

        return Consumption(**{f.name: added(f.name) for f in fields(self)})  # type: ignore[arg-type]


def consumption(on: Spans, busy: Spans, power: Power, signals: Signals, grid_s: float | None = None) -> Consumption:
    """Consumption of a client that is on during `on` and trains during `busy`, which lies within `on`.

    `grid_s` None integrates the signals exactly; a number of seconds sums over a grid of that step instead.
    """

    def joules(signal: Trace | None) -> float | None:
        if signal is None:
            return None
        extra = (power.train_w - power.idle_w) * integral(busy, signal, grid_s)
        return power.idle_w * integral(on, signal, grid_s) + extra

    kwh, co2, cost = (
        None if found is None else found / J_PER_KWH for found in map(joules, (ONE, signals.carbon, signals.price))
    )
    return Consumption(on_s=length(on), train_s=length(busy), kwh=kwh or 0.0, co2_g=co2, cost=cost)


def integral(spans: Spans, signal: Trace, grid_s: float | None = None) -> float:
    """∫ of the signal over the spans: exact, or the sum of its values at the multiples of `grid_s` times `grid_s`."""
    if grid_s is None:
        return float(signal.integral(spans[:, 0], spans[:, 1]).sum())
    first, after = np.ceil(spans / grid_s).astype(np.int64).T
    counts = after - first
    steps = np.arange(counts.sum()) + np.repeat(first - np.cumsum(counts) + counts, counts)
    return float(signal.value(steps * grid_s).sum() * grid_s)


def length(spans: Spans) -> float:
    """Total seconds of the spans."""
    return float((spans[:, 1] - spans[:, 0]).sum())


def union(spans: ArrayLike) -> Spans:
    """The union of any spans, ascending and disjoint; spans that are empty or backwards are left out."""
    given = np.asarray(spans, dtype=np.float64).reshape(-1, 2)
    given = given[given[:, 1] > given[:, 0]]
    given = given[np.argsort(given[:, 0], kind="stable")]
    if not len(given):
        return given
    reach = np.maximum.accumulate(given[:, 1])
    (first,) = np.nonzero(np.append(True, given[1:, 0] > reach[:-1]))
    last = np.append(first[1:], len(given)) - 1
    return np.column_stack((given[first, 0], reach[last]))


def pieces(spans: Spans, cuts: NDArray[np.float64]) -> Spans:
    """The same spans, cut at `cuts`."""
    edges = np.unique(np.concatenate((spans.ravel(), cuts)))
    inside = _within(spans, (edges[:-1] + edges[1:]) / 2)
    return np.column_stack((edges[:-1], edges[1:]))[inside]


def intersection(a: Spans, b: Spans) -> Spans:
    """The time that lies in both; all ends must be finite."""
    cut = pieces(a, b.ravel())
    return union(cut[_within(b, cut.mean(axis=1))])


def clipped(spans: Spans, start: float, stop: float) -> Spans:
    """The parts of the spans within [start, stop)."""
    cut = np.minimum(np.maximum(spans, start), stop)
    return cut[cut[:, 1] > cut[:, 0]]


def _within(spans: Spans, t: NDArray[np.float64]) -> NDArray[np.bool_]:
    if not len(spans):
        return np.zeros(len(t), dtype=bool)
    k = np.searchsorted(spans[:, 0], t, side="right") - 1
    return np.asarray((k >= 0) & (t < spans[k, 1]))


@dataclass(frozen=True)
class _Ahead:
    """Overlapped steps that may be taken on a lease: when they begin, and the latest time at which they end."""

    lease: int
    begun: float
    ends: float


class Usage:
    """When each client was up and when it computed, from events in event log order.

    Accumulated and merged work took as long as the client says. Work that was lost, refused or late counts as computing
    from its dispatch until its reply came, its machine left, or it was given up; an empty update counts as nothing.
    Lost overlapped steps count for the time that they would take at the speed of the last submitted steps.
    """

    def __init__(self) -> None:
        self.t = 0.0
        self.tokens: dict[str, int] = {}  # accumulated in rounds, by client
        self._seen_up = False
        self._up: dict[str, float] = {}
        self._windows: dict[str, array[float]] = {}
        self._busy: dict[str, array[float]] = {}
        self._work: dict[str, dict[int, float]] = {}  # client → lease → dispatched
        self._ahead: dict[str, _Ahead] = {}  # by client
        self._granted: dict[str, LeaseGranted] = {}  # client → its last lease for overlapped steps

    def add(self, event: Event) -> None:
        self.t = max(self.t, event.t)
        match event:
            case WorkDispatched():  # the three most frequent events come first
                self._work[event.client][event.lease] = event.t
            case UpdateFolded():
                self._work[event.client].pop(event.lease, None)
                self._pop_ahead(event.client, event.lease)
                self._foresee(event)
                self._busy[event.client].extend((*event.ahead, event.busy_from, event.busy_until))
                self.tokens[event.client] = self.tokens.get(event.client, 0) + event.tokens
            case LeaseGranted() if event.ahead:
                self._granted[event.client] = event
            case RunStarted():
                for client in event.clients:
                    self._windows[client], self._busy[client], self._work[client] = array("d"), array("d"), {}
            case ClientUp():
                self._seen_up = True
                self._up[event.client] = event.t
            case ClientDown():
                self._windows[event.client].extend((self._up.pop(event.client, event.t), event.t))
                for lease in list(self._work[event.client]):
                    self._end(event.client, lease, event.t)
            case UpdateRefused():
                if event.reason == "empty":
                    self._work[event.client].pop(event.lease, None)
                    self._pop_ahead(event.client, event.lease)
                self._end(event.client, event.lease, event.t)
            case LeaseReleased() if event.reason != "expired":  # work on an expired lease goes on until its reply
                self._end(event.client, event.lease, event.t)

    @property
    def clients(self) -> list[str]:
        return list(self._busy)

    def recorded(self, client: str) -> "tuple[array[float], array[float], float | None, float | None]":
        """The client's windows and work that have ended, as starts and stops in the order in which they became known.

        Then when its window began and when its work did, those that have not ended.
        """
        work = self._work[client]
        since = None
        if work:
            since = min(work.values()) if len(work) > 1 else next(iter(work.values()))
        return self._windows[client], self._busy[client], self._up.get(client), since

    def windows(self, client: str, since: float = 0.0) -> Spans:
        """The client's windows that end after `since`; the whole run, if it has no windows."""
        if not self._seen_up:
            return union([0.0, self.t])
        open_ = [self._up[client], self.t] if client in self._up else []
        return union([*_behind(self._windows[client], since), *open_])

    def busy(self, client: str, since: float = 0.0) -> Spans:
        """The spans in which the client computed and that end after `since`."""
        open_ = [(begun, self.t) for begun in self._work[client].values()]
        done = np.array(_behind(self._busy[client], since)).reshape(-1, 2)
        return union(np.concatenate((done, np.array(open_).reshape(-1, 2))))

    def settled(self, client: str, provisioning_s: float) -> float:
        """The time before which future events no longer change when the client was on or computed, in seconds.

        Work in progress may turn out shorter, and overlapped steps may turn out not to have been taken. A machine that
        is off may have been starting for `provisioning_s` already.
        """
        coming = self._seen_up and client not in self._up
        ahead = [self._ahead[client].begun] if client in self._ahead else []
        return max(0.0, min(self.t - provisioning_s * coming, *self._work[client].values(), *ahead, self.t))

    def _foresee(self, event: UpdateFolded) -> None:
        """Note until when a client that has submitted may take overlapped steps."""
        granted = self._granted.get(event.client)
        if granted and granted.round == event.round + 1 and not event.drained:
            ends = event.busy_until + granted.ahead[0] * event.trained_s / event.steps
            self._ahead[event.client] = _Ahead(granted.lease, event.busy_until, ends)

    def _pop_ahead(self, client: str, lease: int) -> "_Ahead | None":
        ahead = self._ahead.get(client)
        return self._ahead.pop(client) if ahead and ahead.lease == lease else None

    def _end(self, client: str, lease: int, t: float) -> None:
        if ahead := self._pop_ahead(client, lease):
            self._busy[client].extend((ahead.begun, min(ahead.ends, t)))
        begun = self._work[client].pop(lease, None)
        if begun is not None:
            self._busy[client].extend((begun, t))


def _behind(spans: "array[float]", since: float) -> "array[float]":
    """The spans that end after `since`; `spans` holds starts and stops in turn, in ascending order."""
    return spans[2 * bisect_right(range(len(spans) // 2), since, key=lambda k: spans[2 * k + 1]) :]


def switched_on(windows: Spans, provisioning_s: float) -> Spans:
    """When a machine is on that starts `provisioning_s` before each of its windows; the run begins at 0."""
    earlier = np.column_stack((np.maximum(0.0, windows[:, 0] - provisioning_s), windows[:, 1]))
    return union(earlier)
