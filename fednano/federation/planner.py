"""What the server knows of the end of a client's window when it gives out work.

A planner stands on the server's side and decides how much is asked for. The drain stands on the client's: whatever was
asked for, a client that sees its end coming submits what it did (`Presence`). Who knows ends may also plan with them
when machines are switched off: the delay before that guards those who cannot tell whether a window opens again at once.
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
        """When clients are up, if this planner decides when they leave."""

    def known_end(self, membership: Members, client: str, now: float) -> float:
        """When the client leaves, in seconds on the run's clock, as far as it is known at `now`; infinite if not."""


@dataclass(frozen=True)
class Blind:
    """Knows no ends: everyone who is up is asked for a whole round's work."""

    def plan(self, profile: Profile) -> Profile:
        return profile

    def known_end(self, membership: Members, client: str, now: float) -> float:
        return math.inf


@dataclass(frozen=True)
class Aware:
    """Knows what clients are told: the end of a window that is drained, from its notice on.

    Args:
        deprovision: how machines leave the windows of a trace. delayed: `hysteresis_s` after the condition failed.
            foreseen: at once, unless it holds again before a machine that left would be back; where windows may end
            in a crash, delayed all the same.
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
    """Knows every end, that of a crash too: the bound that no planner passes.

    Args:
        deprovision: as of `Aware`, but foreseen holds for crashes too.
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
        raise ValueError(f"planner.deprovision must be delayed or foreseen, got {deprovision}; choose one of them")
