"""Profiles of clients that follow the sun, and of clients whose speed changes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from fednano.core.randomness import generator
from fednano.core.ranges import Duration, Speedup
from fednano.volatility.availability import Availability, Window
from fednano.volatility.profiles import Leaving, Profile, check_durations, draws
from fednano.volatility.speed import Speed

HOUR_S, DAY_S = 3600.0, 86400.0


@dataclass(frozen=True, kw_only=True)
class Diurnal(Leaving):
    """One window a day around an hour of the client's own time zone.

    Args:
        zones_h: hours by which local time is ahead of UTC, dealt to the clients in turn. The run begins at 0 h UTC.
        middle_h: local hour of the middle of a window.
        duty: share of the day that a window takes.
        jitter_s: standard deviation of both ends of a window, seconds of the day; limited so that windows never meet.
        speedup: seconds of the day that pass in one second of the run.
    """

    name: str = "diurnal"
    zones_h: tuple[float, ...] = (0.0, 8.0, 16.0)
    middle_h: float = 12.0
    duty: float = 0.5
    jitter_s: float = 1800.0
    speedup: Speedup = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "zones_h", tuple(self.zones_h))
        if not self.zones_h or not all(-24 <= zone <= 24 for zone in self.zones_h):
            raise ValueError(
                f"volatility.zones_h must be hours from -24 to 24, got {list(self.zones_h)}; use such as [-5, 1, 8]"
            )
        if not 0.0 <= self.middle_h <= 24.0:
            raise ValueError(f"volatility.middle_h must be from 0 to 24, got {self.middle_h}; it is an hour of the day")
        if not 0.0 < self.duty < 1.0:
            raise ValueError(
                f"volatility.duty must be > 0 and < 1, got {self.duty}; it is the share of a day that clients are up"
            )
        if not 0.0 <= self.jitter_s < math.inf:
            raise ValueError(f"volatility.jitter_s must be >= 0 seconds, got {self.jitter_s}; 0 means exact times")
        check_speedup(self.speedup)

    @property
    def cycle_s(self) -> float:
        return DAY_S / self.speedup

    def availability(self, client: str, index: int, seed: int) -> Availability:
        return Availability(self.windows(self._spans(client, index, seed), client, seed))

    def _spans(self, client: str, index: int, seed: int) -> Iterator[tuple[float, float]]:
        normal = draws(generator(seed, client, "availability"), "normal", 0.0, self.jitter_s)
        limit = 0.499 * DAY_S * min(self.duty, 1 - self.duty)
        zone = self.zones_h[index % len(self.zones_h)]
        # Begin two days early: local time may be a day ahead, and a window may reach into the next day.
        middle = (self.middle_h - zone) * HOUR_S - 2 * DAY_S
        while True:
            start = middle - self.duty * DAY_S / 2 + max(-limit, min(limit, next(normal)))
            stop = middle + self.duty * DAY_S / 2 + max(-limit, min(limit, next(normal)))
            yield start / self.speedup, stop / self.speedup
            middle += DAY_S


@dataclass(frozen=True, kw_only=True)
class Straggler(Profile):
    """Clients that never leave but change their speed, which is log-normal around that of their hardware.

    The mean speed equals that of the hardware.

    Args:
        name: name in summaries.
        sigma: standard deviation of the logarithm of the momentary factor of a client's speed.
        client_sigma: standard deviation of the logarithm of the factor that a client has for the whole run.
        mean_hold_s: mean of the exponential time that a momentary factor lasts, seconds.
    """

    name: str = "straggler"
    sigma: float = 0.5
    client_sigma: float = 0.3
    mean_hold_s: Duration = 60.0

    def __post_init__(self) -> None:
        for key in ("sigma", "client_sigma"):
            if not 0.0 <= getattr(self, key) < 10.0:
                raise ValueError(
                    f"volatility.{key} must be >= 0 and < 10, got {getattr(self, key)}; 0 means a constant speed"
                )
        check_durations(self, "mean_hold_s")

    @property
    def cycle_s(self) -> float:
        return self.mean_hold_s

    def availability(self, client: str, index: int, seed: int) -> Availability:
        return Availability(iter([Window(0.0, math.inf, "drain")]))

    def speed(self, client: str, index: int, seed: int) -> Speed:
        return Speed(self._pieces(client, seed))

    def _pieces(self, client: str, seed: int) -> Iterator[tuple[float, float]]:
        draw = generator(seed, client, "speed")
        # The mean of a log-normal factor is 1 if the mean of its logarithm is -sigma²/2.
        lasting = draw.lognormal(-(self.client_sigma**2) / 2, self.client_sigma)
        momentary = draws(draw, "lognormal", -(self.sigma**2) / 2, self.sigma)
        holds = draws(draw, "exponential", self.mean_hold_s)
        t = 0.0
        while True:
            t += max(next(holds), 1e-6 * self.mean_hold_s)
            yield t, lasting * next(momentary)


def check_speedup(speedup: float, group: str = "volatility") -> None:
    if not 0.0 < speedup < math.inf:
        raise ValueError(f"{group}.speedup must be > 0, got {speedup}; 600 makes each second ten minutes")
