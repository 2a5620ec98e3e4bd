"""Volatility profiles: pure seeded functions from a client to its availability and its speed."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from fednano.core.randomness import generator
from fednano.core.ranges import Duration, Range
from fednano.volatility.availability import Availability, Exit, Window
from fednano.volatility.speed import Speed, steady

CHUNK = 256  # draws at a time


class Profile(ABC):
    """A `volatility` choice."""

    name: str

    @property
    def endless(self) -> bool:
        """Whether clients keep coming forever; if not, a run may outlast them."""
        return True

    @property
    def cycle_s(self) -> float:
        """Mean seconds between two arrivals of a client, or two changes of its speed; infinite if there are few."""
        return math.inf

    @property
    def described(self) -> tuple[str, ...]:
        """A line for each of the user's own traces that it follows: file, span, and how stamps were read."""
        return ()

    @abstractmethod
    def availability(self, client: str, index: int, seed: int) -> Availability:
        """When `client`, which has this index, is up. Equal arguments give equal windows."""

    def drawn(self, client: str, index: int, seed: int) -> Availability:
        """`availability`, whose errors name the client and this profile. Raises ValueError if it is something else."""
        found = self.availability(client, index, seed)
        whose = f"{client} of {type(self).__name__}"
        if not isinstance(found, Availability):
            raise ValueError(
                f"volatility must return an Availability, got {type(found).__name__} for {whose}; return "
                "Availability(windows)"
            )
        found.whose = whose
        return found

    def speed(self, client: str, index: int, seed: int) -> Speed:
        """The speed of `client` as a share of its hardware's. Equal arguments give equal speeds."""
        return steady()

    def foreseen(self, crashes: bool) -> "Profile":
        """The same clients if the ends of windows are known in advance; the ends by crashes only if `crashes`.

        Only profiles whose clients wait before they leave differ. Raises ValueError if no window is left.
        """
        return self


@dataclass(frozen=True)
class AlwaysOn(Profile):
    """Clients never leave.

    Args:
        name: name in summaries.
    """

    name: str = "none"

    def availability(self, client: str, index: int, seed: int) -> Availability:
        return Availability(iter([Window(0.0, math.inf, "drain")]))


@dataclass(frozen=True, kw_only=True)
class Leaving(Profile):
    """The common part of all profiles whose clients leave.

    Args:
        name: name in summaries.
        exit: how windows end. drain: the client submits its work; crash: its work is lost; mixed: some of each.
        crash_share: probability that a window ends in a crash if exit is mixed.
    """

    name: str
    exit: Literal["drain", "crash", "mixed"] = "mixed"
    crash_share: float = 0.4

    def __post_init__(self) -> None:
        if self.exit not in ("drain", "crash", "mixed"):
            raise ValueError(f"volatility.exit must be drain, crash or mixed, got {self.exit}; choose one of them")
        if not 0.0 <= self.crash_share <= 1.0:
            raise ValueError(f"volatility.crash_share must be from 0 to 1, got {self.crash_share}; it is a probability")

    @property
    def crash_probability(self) -> float:
        """The probability that a window ends in a crash."""
        return {"drain": 0.0, "crash": 1.0, "mixed": self.crash_share}[self.exit]

    def windows(
        self, spans: Iterable[tuple[float, float]], client: str, seed: int, notice_s: float = math.inf
    ) -> Iterator[Window]:
        """The parts of `spans` (start, stop) from 0 s on as windows, each with a drawn exit."""
        for (start, stop), leaves in zip(spans, self.exits(client, seed), strict=False):
            if stop > max(0.0, start):
                yield Window(max(0.0, start), stop, leaves, notice_s)

    def exits(self, client: str, seed: int) -> Iterator[Exit]:
        """The drawn exits of the client's windows, in order."""
        for drawn in draws(generator(seed, client, "exit"), "random"):
            yield "crash" if drawn < self.crash_probability else "drain"


@dataclass(frozen=True, kw_only=True)
class Markov(Leaving):
    """Two-state continuous-time Markov chain: exponential times up and down.

    Args:
        mean_up_s: mean length of a window, seconds.
        mean_down_s: mean length of an absence, seconds.
    """

    name: str = "markov"
    mean_up_s: Duration = 60.0
    mean_down_s: Duration = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_durations(self, "mean_up_s", "mean_down_s")

    @property
    def cycle_s(self) -> float:
        return self.mean_up_s + self.mean_down_s

    def availability(self, client: str, index: int, seed: int) -> Availability:
        return Availability(self._windows(client, seed))

    def _windows(self, client: str, seed: int) -> Iterator[Window]:
        draw = generator(seed, client, "availability")
        # The stationary distribution decides whether the client is up at the start.
        up_first = draw.random() < self.mean_up_s / (self.mean_up_s + self.mean_down_s)
        t = 0.0 if up_first else float(draw.exponential(self.mean_down_s))
        while True:
            stop = t + float(draw.exponential(self.mean_up_s))
            crash = draw.random() < self.crash_probability
            if stop > t:
                yield Window(t, stop, "crash" if crash else "drain")
            t = stop + float(draw.exponential(self.mean_down_s))


@dataclass(frozen=True, kw_only=True)
class Bernoulli(Leaving):
    """In each slot of time the client is up with a fixed probability, independent of earlier slots.

    Args:
        up_probability: probability that the client is up in a slot.
        slot_s: length of a slot, seconds. Consecutive slots up form one window.
    """

    name: str = "bernoulli"
    up_probability: Annotated[float, Range(ge=1e-6, lt=1)] = 0.7
    slot_s: Duration = 15.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_durations(self, "slot_s")
        if not 0.0 < self.up_probability < 1.0:
            raise ValueError(
                f"volatility.up_probability must be > 0 and < 1, got {self.up_probability}; use volatility=none for "
                "clients that never leave"
            )

    @property
    def cycle_s(self) -> float:
        return self.slot_s / (self.up_probability * (1 - self.up_probability))

    def availability(self, client: str, index: int, seed: int) -> Availability:
        return Availability(self.windows(self._spans(client, seed), client, seed))

    def _spans(self, client: str, seed: int) -> Iterator[tuple[float, float]]:
        draw = generator(seed, client, "availability")
        # Runs of equal slots have geometric lengths, so slots need not be drawn one by one.
        ups, downs = draws(draw, "geometric", 1 - self.up_probability), draws(draw, "geometric", self.up_probability)
        slot = 0 if draw.random() < self.up_probability else next(downs)
        while True:
            stop = slot + next(ups)
            yield slot * self.slot_s, stop * self.slot_s
            slot = stop + next(downs)


@dataclass(frozen=True, kw_only=True)
class Spot(Leaving):
    """Spot instances: Weibull lifetimes, and an exponential wait for the next instance.

    A crash comes without notice.

    Args:
        mean_up_s: mean lifetime, seconds.
        shape: shape of the Weibull distribution; below 1 young instances leave more often, at 1 age does not matter.
        mean_down_s: mean of the exponential time until the next instance computes, seconds.
        notice_s: notice before a drain, seconds; 0: all departures are crashes.
    """

    name: str = "spot"
    exit: Literal["drain", "crash", "mixed"] = "drain"
    mean_up_s: Duration = 300.0
    shape: Annotated[float, Range(ge=0.05, le=1000)] = 0.8
    mean_down_s: Duration = 60.0
    notice_s: Annotated[float, Range(ge=0, le=math.inf)] = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_durations(self, "mean_up_s", "mean_down_s")
        if not 0.0 < self.shape < math.inf:
            raise ValueError(f"volatility.shape must be > 0, got {self.shape}; 1 makes lifetimes exponential")
        if not self.notice_s >= 0.0:
            raise ValueError(f"volatility.notice_s must be >= 0 seconds, got {self.notice_s}; 0 means no notice")

    @property
    def cycle_s(self) -> float:
        return self.mean_up_s + self.mean_down_s

    @property
    def crash_probability(self) -> float:
        return super().crash_probability if self.notice_s else 1.0

    def availability(self, client: str, index: int, seed: int) -> Availability:
        return Availability(self.windows(self._spans(client, seed), client, seed, self.notice_s))

    def _spans(self, client: str, seed: int) -> Iterator[tuple[float, float]]:
        draw = generator(seed, client, "availability")
        scale = self.mean_up_s / math.gamma(1 + 1 / self.shape)
        lives, waits = draws(draw, "weibull", self.shape), draws(draw, "exponential", self.mean_down_s)
        t = 0.0 if draw.random() < self.mean_up_s / (self.mean_up_s + self.mean_down_s) else next(waits)
        while True:
            stop = t + scale * next(lives)
            yield t, stop
            t = stop + next(waits)


def draws(draw: np.random.Generator, distribution: str, *parameters: float) -> Iterator[float]:
    """Endless draws from one of NumPy's distributions, made `CHUNK` at a time."""
    while True:
        yield from getattr(draw, distribution)(*parameters, size=CHUNK).tolist()


def check_durations(profile: Profile, *keys: str) -> None:
    """Raise ValueError unless these settings of the profile are finite and above 0."""
    for key in keys:
        value = getattr(profile, key)
        if not 0.0 < value < math.inf:
            raise ValueError(f"volatility.{key} must be > 0 seconds, got {value}; or use volatility=none")
