"""Membership: which clients are up and how fast they are, as the server sees them."""

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from fednano.volatility.availability import Availability, Window
from fednano.volatility.profiles import Profile
from fednano.volatility.speed import Speed, steady


class Members(Protocol):
    """Which clients are up, as the round loop sees it. Times are seconds on the run's clock and never go back."""

    def rank(self, client: str) -> int:
        """The client's position in the order of all clients."""

    def moved(self, t: float) -> list[str]:
        """The clients that may have come or gone between the last call and `t`, in order."""

    def is_up(self, client: str, t: float) -> bool:
        """Whether the client is up at `t`."""

    def window(self, client: str, t: float) -> Window | None:
        """The client's window at `t`, or None while it is down."""

    def next_change(self, t: float) -> float:
        """The first time after `t` at which any client may come or go; infinite if never."""

    def next_arrival(self, t: float, besides: str) -> float:
        """The first time after `t` at which any client but `besides` is known to come; infinite if none is."""


class Membership:
    """The availability and speed of all clients of a run, in the order of `availabilities`."""

    def __init__(self, availabilities: Mapping[str, Availability], speeds: Mapping[str, Speed] | None = None) -> None:
        self._availabilities = dict(availabilities)
        self._speeds = dict(speeds) if speeds is not None else {client: steady() for client in availabilities}
        self._up = dict.fromkeys(availabilities, False)
        self._rank = {client: rank for rank, client in enumerate(availabilities)}
        self._moved: set[str] = set()
        self._begin()

    @classmethod
    def draw(cls, profile: Profile, clients: Sequence[str], seed: int) -> "Membership":
        return cls(
            {client: profile.drawn(client, i, seed) for i, client in enumerate(clients)},
            {client: profile.speed(client, i, seed) for i, client in enumerate(clients)},
        )

    @property
    def clients(self) -> tuple[str, ...]:
        return tuple(self._availabilities)

    def window(self, client: str, t: float) -> Window | None:
        """The client's window at `t`, or None while it is down."""
        return self._availabilities[client].window(t)

    def windows(self, client: str, until: float) -> Iterator[Window]:
        """The client's windows that begin before `until`, uncut, in order."""
        return self._availabilities[client].begun(until)

    def up(self, t: float) -> tuple[str, ...]:
        """The clients that are up at `t`."""
        self._seek(t)
        return tuple(client for client, up in self._up.items() if up)

    def is_up(self, client: str, t: float) -> bool:
        """Whether the client is up at `t`."""
        self._seek(t)
        return self._up[client]

    def moved(self, t: float) -> list[str]:
        """The clients that may have come or gone between the last call and `t`, in order."""
        self._seek(t)
        moved, self._moved = self._moved, set()
        return sorted(moved, key=self.rank)

    def rank(self, client: str) -> int:
        """The client's position in the order of all clients."""
        return self._rank[client]

    def never_up(self) -> bool:
        """Whether no client ever has a window."""
        return all(a.upcoming(0.0) is None for a in self._availabilities.values())

    def next_change(self, t: float) -> float:
        """The first time after `t` at which any client comes or goes; infinite if never."""
        self._seek(t)
        return self._changes[0][0]

    def next_arrival(self, t: float, besides: str) -> float:
        """The first time after `t` at which any client but `besides` comes; infinite if never."""
        others = (a for client, a in self._availabilities.items() if client != besides)
        return min((a.next_start(t) for a in others), default=math.inf)

    def up_seconds(self, client: str, until: float) -> float:
        """Seconds that the client is up within [0, until)."""
        return self._availabilities[client].up_seconds(until)

    def speed(self, client: str, t: float) -> float:
        """The share of its hardware's speed that the client has at `t`."""
        return self._speeds[client].at(t)

    def next_speed(self, client: str, t: float) -> float:
        """When the client's speed at `t` ends; infinite if never."""
        return self._speeds[client].next_change(t)

    def steady_until(self, client: str, t: float) -> float:
        """When the window that contains `t` ends or the client's speed changes; `t` if the client is down."""
        window = self.window(client, t)
        return min(window.stop, self._speeds[client].next_change(t)) if window else t

    def full_seconds(self, client: str, until: float) -> float:
        """The client's time up within [0, until), in equivalent seconds at its hardware's full speed."""
        speed = self._speeds[client]
        return sum(speed.full_seconds(w.start, w.stop) for w in self._availabilities[client].until(until))

    def _begin(self) -> None:
        self._at = -math.inf
        # A heap of the next time at which each client comes or goes, after `_at`.
        self._changes = [(-math.inf, client) for client in self._availabilities]

    def _seek(self, t: float) -> None:
        """Bring `_up` and `_changes` to `t`. Going forward, this only touches the clients that come or go."""
        if t < self._at:
            self._begin()
        while self._changes[0][0] <= t and self._changes[0][0] < math.inf:
            client = self._changes[0][1]
            availability = self._availabilities[client]
            self._up[client] = availability.window(t) is not None
            self._moved.add(client)
            heapq.heapreplace(self._changes, (availability.next_change(t), client))
        self._at = t
