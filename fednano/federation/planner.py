"""Planners: what the server knows of the end of a client's window when it dispatches work.

A planner decides on the server how much work a client gets. Draining happens on the client: whatever its task, a client
that sees its end coming submits what it has done (`Presence`). A planner that knows ends may also decide when machines
are switched off. Without that knowledge a delay is needed, since a window may open again at once.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

from fednano.volatility.membership import Members
from fednano.volatility.profiles import Profile

Deprovision = Literal["delayed", "foreseen"]


class Planner(Protocol):
    """A `planner` choice."""

    def plan(self, profile: Profile) -> Profile:
        """The profile of when clients are up, changed if this planner decides when they leave."""

    def known_end(self, membership: Members, client: str, now: float) -> float:
        """When the client leaves, in seconds on the run's clock, if that is known at `now`; otherwise infinite."""


@dataclass(frozen=True)
class Blind:
    """Knows no ends: every client that is up gets a whole round's work."""

    def plan(self, profile: Profile) -> Profile:
        return profile

    def known_end(self, membership: Members, client: str, now: float) -> float:
        return math.inf


@dataclass(frozen=True)
class Aware:
    """Knows what clients know: the end of a window that ends in a drain, from its notice on.

    Args:
        deprovision: when machines are released at the end of a trace's window. delayed: `hysteresis_s` after the
            condition fails. foreseen: at once, unless the condition holds again before a released machine would be
            back; windows that may end in a crash are always delayed.
    """

    deprovision: Deprovision = "delayed"

    def __post_init__(self) -> None:
        _check(self.deprovision)

    def plan(self, profile: Profile) -> Profile:
        return profile.foreseen(crashes=False) if self.deprovision == "foreseen" else profile

    def known_end(self, membership: Members, client: str, now: float) -> float:
        window = membership.window(client, now)
        if window is None:
            return now
        known = window.exit == "drain" and now >= window.stop - window.notice_s
        return window.stop if known else math.inf


@dataclass(frozen=True)
class Oracle:
    """Knows every end, including crashes: an upper bound for all planners.

    Args:
        deprovision: when machines are released at the end of a trace's window. delayed: `hysteresis_s` after the
            condition fails. foreseen: at once, unless the condition holds again before a released machine would be
            back; this applies to windows that may end in a crash as well.
    """

    deprovision: Deprovision = "delayed"

    def __post_init__(self) -> None:
        _check(self.deprovision)

    def plan(self, profile: Profile) -> Profile:
        return profile.foreseen(crashes=True) if self.deprovision == "foreseen" else profile

    def known_end(self, membership: Members, client: str, now: float) -> float:
        window = membership.window(client, now)
        return now if window is None else window.stop


def _check(deprovision: str) -> None:
    if deprovision not in ("delayed", "foreseen"):
        raise ValueError(f"planner.deprovision must be delayed or foreseen, got {deprovision}; use one of them")
