"""What the server knows of the end of a client's window when it gives out work.

A planner stands on the server's side and decides how much is asked for. The drain stands on the client's: whatever was
asked for, a client that sees its end coming hands in what it did (`Presence`).
"""

import math
from dataclasses import dataclass
from typing import Protocol

from fednano.volatility.membership import Membership


class Planner(Protocol):
    """A `planner` choice."""

    def known_end(self, membership: Membership, client: str, now: float) -> float:
        """When the client leaves, in seconds on the run's clock, as far as it is known at `now`; infinite if not."""


@dataclass(frozen=True)
class Blind:
    """Knows no ends: everyone who is up is asked for a whole round's work."""

    def known_end(self, membership: Membership, client: str, now: float) -> float:
        return math.inf


@dataclass(frozen=True)
class Aware:
    """Knows what clients are told: the end of a window that is drained, from its notice on."""

    def known_end(self, membership: Membership, client: str, now: float) -> float:
        window = membership.window(client, now)
        if window is None:
            return now
        known = window.exit == "drain" and now >= window.stop - window.notice_s
        return window.stop if known else math.inf


@dataclass(frozen=True)
class Oracle:
    """Knows every end, that of a crash too: the bound that no planner passes."""

    def known_end(self, membership: Membership, client: str, now: float) -> float:
        window = membership.window(client, now)
        return now if window is None else window.stop
