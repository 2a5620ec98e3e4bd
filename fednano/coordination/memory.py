"""The in-memory coordination store, for runs in one process."""

from collections.abc import Callable

from msgspec.structs import replace

from fednano.coordination.store import Lease, StopRequestedError


class MemoryStore:
    """A `CoordinationStore` in memory. `request_stop` is safe in a signal handler.

    Args:
        make_token: makes a lease's token.
    """

    def __init__(self, make_token: Callable[[], str] = str) -> None:
        self._make_token = make_token
        self._leases: dict[int, Lease] = {}
        self._drains: dict[int, float] = {}
        self._next = 0
        self._stop = False

    def grant(self, client: str, round: int, expires: float, ahead: bool = False) -> Lease:
        lease = Lease(id=self._next, client=client, round=round, expires=expires, token=self._make_token(), ahead=ahead)
        self._leases[lease.id] = lease
        self._next += 1
        return lease

    def take_up(self, lease: int, expires: float) -> Lease:
        self._leases[lease] = replace(self._leases[lease], expires=expires, ahead=False)
        return self._leases[lease]

    def holds(self, lease: int) -> bool:
        return lease in self._leases

    def give_up(self, lease: int) -> Lease:
        self._drains.pop(lease, None)
        return self._leases.pop(lease)

    def issued(self) -> int:
        return self._next

    def skip(self, issued: int) -> None:
        self._next = issued

    def held(self) -> tuple[Lease, ...]:
        return tuple(self._leases.values())

    def request_drain(self, lease: int, at: float) -> None:
        self._drains[lease] = min(at, self._drains.get(lease, at))

    def drain_requested(self, lease: int, now: float) -> bool:
        return lease in self._drains and self._drains[lease] <= now

    def request_stop(self) -> None:
        self._stop = True

    def check_stop(self) -> None:
        if self._stop:
            raise StopRequestedError
