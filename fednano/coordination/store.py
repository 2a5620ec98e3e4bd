"""The coordination store: who holds which lease, who is there, and whether the run is asked to stop."""

from dataclasses import dataclass
from typing import Protocol

from fednano.core.inner_step import InnerStep


class StopRequestedError(Exception):
    """Someone asked the run to stop; raised at the next inner step and carried up to the runtime."""


NO_LEASE = -1


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A client's right to train some rows until `expires`, in seconds on the run's clock.

    Who submits shows the fencing `token`, which nobody can guess where others could try. A lease that is granted
    `ahead` is for work that is not asked for yet.
    """

    id: int
    client: str
    round: int
    expires: float
    token: str = ""
    ahead: bool = False


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """What a node says of itself every second.

    Args:
        name: the client's name, as the server knows it.
        incarnation: made anew whenever its trainer starts.
        ready: it is warm and can train at once.
        leaving: it submits what it has and takes no more work.
        step_s: measured seconds of one inner step, 0 while unknown.
        lease: the lease that it works on, or `NO_LEASE`.
    """

    name: str
    incarnation: str
    ready: bool
    leaving: bool
    step_s: float
    lease: int


class NameTakenError(ValueError):
    """Another node works under this name; its text says what to do."""


class CoordinationStore(Protocol):
    """Coordination between the server and its clients."""

    def grant(self, client: str, round: int, expires: float, ahead: bool = False) -> Lease:
        """A new lease with the next id."""

    def take_up(self, lease: int, expires: float) -> Lease:
        """A lease that was granted ahead, now that its work is asked for. Raises KeyError if it is not in force."""

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
        """Ask who holds a lease to submit from `at` on, in seconds on the run's clock; the earliest request counts."""

    def drain_requested(self, lease: int, now: float) -> bool:
        """Whether who holds the lease is asked to submit by now."""

    def request_stop(self) -> None:
        """Ask the run to stop after the inner step under way."""

    def check_stop(self) -> None:
        """Raise StopRequestedError if a stop was requested."""


class LiveStore(CoordinationStore, Protocol):
    """A coordination store whose clients are elsewhere, as the server sees it."""

    def present(self) -> dict[str, Heartbeat]:
        """The nodes whose heartbeats have not expired, by name."""

    def steps(self) -> list[InnerStep]:
        """The inner steps told since the last call, as they came."""

    def acknowledged(self, lease: int) -> bool:
        """Whether who holds the lease knows that it is asked to submit."""

    def stopping(self) -> frozenset[str]:
        """The nodes that know of the request to stop."""


class Post(Protocol):
    """A node's side of a live coordination store. All but `holds` answer from memory: no step waits for the network."""

    def heartbeat(self, heartbeat: Heartbeat) -> None:
        """What to say from now on, every second. The first call takes the name: NameTakenError where it is taken."""

    def holds(self, lease: int, token: str) -> bool:
        """Whether the lease is in force and this is its token; by its expiry alone while the store is out of reach."""

    def may_hold(self, lease: int, token: str) -> bool:
        """`holds` as far as it is known: False once the lease is known to be out of force."""

    def asked(self, lease: int, now: float) -> bool:
        """Whether the server wants the lease back by `now`, in seconds on this node's clock."""

    def check_stop(self) -> None:
        """Raise StopRequestedError if a stop was requested."""

    def tell_step(self, step: InnerStep) -> None:
        """Tell the server of an inner step; the oldest are dropped if it cannot be told for long."""
