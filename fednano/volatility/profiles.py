"""Volatility profiles: pure seeded functions from a client's name to its availability."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from fednano.randomness import generator
from fednano.volatility.availability import Availability, Window


class Profile(Protocol):
    """A `volatility` choice."""

    name: str

    def availability(self, client: str, seed: int) -> Availability:
        """When `client` is up. Equal arguments give equal windows."""


@dataclass(frozen=True)
class AlwaysOn:
    """Clients never leave."""

    name: str = "none"

    def availability(self, client: str, seed: int) -> Availability:
        return Availability(iter([Window(0.0, math.inf, "drain")]))


@dataclass(frozen=True)
class Markov:
    """Two-state continuous-time Markov chain: exponential times up and down.

    Args:
        name: what summaries call it.
        mean_up_s: mean length of a window, seconds.
        mean_down_s: mean length of an absence, seconds.
        crash_share: probability that a window ends in a crash instead of a drain.
    """

    name: str = "markov"
    mean_up_s: float = 60.0
    mean_down_s: float = 20.0
    crash_share: float = 0.4

    def __post_init__(self) -> None:
        for key in ("mean_up_s", "mean_down_s"):
            value = getattr(self, key)
            if not 0.0 < value < math.inf:
                raise ValueError(f"volatility.{key}={value} is not a duration; use seconds above 0, or volatility=none")
        if not 0.0 <= self.crash_share <= 1.0:
            raise ValueError(f"volatility.crash_share={self.crash_share} is not a probability; use 0 to 1")

    def availability(self, client: str, seed: int) -> Availability:
        return Availability(self._windows(client, seed))

    def _windows(self, client: str, seed: int) -> Iterator[Window]:
        draw = generator(seed, client, "availability")
        # The stationary distribution decides whether the client is up at the start.
        up_first = draw.random() < self.mean_up_s / (self.mean_up_s + self.mean_down_s)
        t = 0.0 if up_first else float(draw.exponential(self.mean_down_s))
        while True:
            stop = t + float(draw.exponential(self.mean_up_s))
            crash = draw.random() < self.crash_share
            if stop > t:
                yield Window(t, stop, "crash" if crash else "drain")
            t = stop + float(draw.exponential(self.mean_down_s))
