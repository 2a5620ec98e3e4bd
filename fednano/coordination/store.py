"""The coordination store's interfaces: leases, heartbeats, and requests to drain or to stop."""

from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from fednano.core.inner_step import InnerStep


class StopRequestedError(Exception):
    """A request to stop the run; raised at the next inner step and passed up to the runtime."""


NO_LEASE = -1


class Lease(Struct, frozen=True, kw_only=True):
    """A client's right to train some rows until `expires`, in seconds on the run's clock.

    A submission must show the fencing `token`, which cannot be guessed if other processes could try. A lease granted
    `ahead` is for overlapped steps, whose work is not asked for yet.
    """

    id: int
    client: str
    round: int
    expires: float
    token: str = ""
    ahead: bool = False


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """A node's report about itself, sent every second.

    Args:
        name: the client's name, as the server knows it.
        incarnation: new each time the node's trainer starts.
        ready: the node is warm and can train at once.
        leaving: the node submits its work and takes no more.
        step_s: measured seconds of an inner step, 0 while unknown.
        lease: the lease that the node works on, or `NO_LEASE`.
    """

    name: str
    incarnation: str
    ready: bool
    leaving: bool
    step_s: float
    lease: int


class NameTakenError(ValueError):
    """Another node uses this name; the message says what to do."""


class CoordinationStore(Protocol):
    """Coordination between the server and its clients."""

    def grant(self, client: str, round: int, expires: float, ahead: bool = False) -> Lease:
        """A new lease with the next id."""

    def take_up(self, lease: int, expires: float) -> Lease:
        """Turn a lease granted ahead into one for work that is asked for. Raises KeyError if it is not in force."""

    def holds(self, lease: int) -> bool:
        """Whether the lease is in force: neither given up nor expired."""

    def give_up(self, lease: int) -> Lease:
        """End a lease. Raises KeyError if it is not in force, as for a duplicate reply."""

    def issued(self) -> int:
        """Number of leases granted so far."""

    def skip(self, issued: int) -> None:
        """Continue numbering after `issued` leases, as a resumed run does."""

    def held(self) -> tuple[Lease, ...]:
        """All leases in force, oldest first."""

    def request_drain(self, lease: int, at: float) -> None:
        """Ask a lease's holder to submit from `at` on, in seconds on the run's clock; the earliest request counts."""

    def drain_requested(self, lease: int, now: float) -> bool:
        """Whether the lease's holder is asked to submit by now."""

    def request_stop(self) -> None:
        """Ask the run to stop after the inner step under way."""

    def check_stop(self) -> None:
        """Raise StopRequestedError if a stop was requested."""


class LiveStore(CoordinationStore, Protocol):
    """The server's side of a coordination store with clients in other processes."""

    def present(self) -> dict[str, Heartbeat]:
        """The nodes whose heartbeats have not expired, by name."""

    def steps(self) -> list[InnerStep]:
        """The inner steps reported since the last call, in order of arrival."""

    def acknowledged(self, lease: int) -> bool:
        """Whether the lease's holder knows that it is asked to submit."""

    def stopping(self) -> frozenset[str]:
        """The nodes that know about the request to stop."""


class Post(Protocol):
    """A node's side of a live coordination store. All but `holds` answer from memory: no step waits for the network."""

    def heartbeat(self, heartbeat: Heartbeat) -> None:
        """Set the heartbeat, sent every second. The first call takes the name; raises NameTakenError if it is taken."""

    def holds(self, lease: int, token: str) -> bool:
        """Whether the lease is in force with this token; while the store is out of reach, by the expiry alone."""

    def may_hold(self, lease: int, token: str) -> bool:
        """`holds` without asking the store: False only if the lease is known to be no longer in force."""

    def asked(self, lease: int, now: float) -> bool:
        """Whether the server wants the lease back by `now`, in seconds on this node's clock."""

    def check_stop(self) -> None:
        """Raise StopRequestedError if a stop was requested."""

    def tell_step(self, step: InnerStep) -> None:
        """Report an inner step to the server; if the store is long out of reach, the oldest are dropped."""
