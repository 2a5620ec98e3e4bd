"""The board: who holds which lease, and whether the run is asked to stop."""

from dataclasses import dataclass
from typing import Protocol


class StopRequestedError(Exception):
    """Someone asked the run to stop; raised at the next inner step and carried up to the runtime."""


@dataclass(frozen=True)
class Lease:
    """A client's right to train some rows until `expires`, in seconds on the run's clock."""

    id: int
    client: str
    round: int
    expires: float


class Board(Protocol):
    """Coordination between the server and its clients."""

    def grant(self, client: str, round: int, expires: float) -> Lease:
        """A new lease with the next id."""

    def holds(self, lease: int) -> bool:
        """Whether the lease is in force: neither given up nor expired."""

    def give_up(self, lease: int) -> Lease:
        """End a lease. Raises KeyError if it is not in force, as for a duplicate reply."""

    def issued(self) -> int:
        """How many leases were ever granted."""

    def skip(self, issued: int) -> None:
        """Go on after `issued` leases, as a run does that is resumed."""

    def held(self) -> tuple[Lease, ...]:
        """All leases in force, oldest first."""

    def request_drain(self, lease: int, at: float) -> None:
        """Ask who holds a lease to hand in from `at` on, in seconds on the run's clock; the earliest request counts."""

    def drain_requested(self, lease: int, now: float) -> bool:
        """Whether who holds the lease is asked to hand in by now."""

    def request_stop(self) -> None:
        """Ask the run to stop after the inner step under way."""

    def check_stop(self) -> None:
        """Raise StopRequestedError if a stop was requested."""
