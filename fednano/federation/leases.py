"""Leases of rows to clients, kept in the coordination store and the ledger and recorded in the event log.

Under `round.overlap` a client has two leases: one for this round and one for the next, on whose rows it takes
overlapped steps while its update travels. It keeps the second if its next task is sent when the next round begins.
"""

import math
from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from fednano.coordination.store import CoordinationStore, Lease
from fednano.core.clock import Clock, wall
from fednano.core.events import Event, LeaseGranted, LeaseReleased, UpdateFolded
from fednano.data.ledger import Grant, Ledger, Span
from fednano.federation.plan import Plan, Round, Site
from fednano.training.overlap import Advance


class Granted(Struct, frozen=True, kw_only=True):
    """A lease and its rows; granted `at`, in seconds on the run's clock, and at a wall-clock reading.

    At most `ahead` overlapped steps may be taken on it before its round begins.
    """

    lease: Lease
    rows: Grant
    at: float
    wall: float
    ahead: int = 0


class Leases:
    """The leases of one federation.

    Args:
        store: records who holds which lease.
        ledger: records the rows of each lease.
        plan: converts steps to a number of rows.
        sites: the pool of each client; kept up to date by the caller.
        clock: stamps the events.
        emit: receives the events.
        freed: called for each lease whose rows are freed while the run goes on, with its client and whether the client
            may have taken overlapped steps on it.
    """

    def __init__(
        self,
        *,
        store: CoordinationStore,
        ledger: Ledger,
        plan: Plan,
        sites: Mapping[str, Site],
        clock: Clock,
        emit: Callable[[Event], None],
        freed: Callable[[str, bool], None] = lambda client, begun: None,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._plan = plan
        self._sites = sites
        self._clock = clock
        self._emit = emit
        self._freed = freed
        self._ahead: dict[str, Granted] = {}  # client → its lease for the next round, until that round uses it

    @property
    def any_ahead(self) -> bool:
        """Whether a client may be taking overlapped steps of a round that has not begun."""
        return bool(self._ahead)

    def grant(self, client: str, round_: Round, steps: int, local_steps: int) -> tuple[Granted, int]:
        """Lease rows for a task of `steps` steps in a round; returns them and the steps to ask for.

        A lease that was granted ahead for the round is taken up. Overlapped steps on it need no more time.
        """
        if granted := self._take_up(client, round_):
            most = self._plan.steps(self._sites[client], round_, local_steps)
            # A faster client may have come since, which leaves this one a share below what it was granted ahead.
            return granted, min(max(most, granted.ahead), steps + granted.ahead)
        return self._grant(client, round_.index, steps, round_.leased_until, 0), steps

    def grant_ahead(self, client: str, round_: Round, local_steps: int) -> Advance:
        """Lease rows of the round after `round_`, for all that it may ask of the client: H steps.

        The client may take as many overlapped steps as its share of this round has. The lease does not expire before
        the next round begins.
        """
        overlap = min(self._plan.length.overlap, self._plan.steps(self._sites[client], round_, local_steps))
        granted = self._ahead[client] = self._grant(client, round_.index + 1, local_steps, math.inf, overlap)
        return Advance(granted.lease.id, granted.lease.token, granted.rows, overlap)

    def _take_up(self, client: str, round_: Round) -> Granted | None:
        """The client's lease granted ahead for this round, now with an expiry; None if it has none.

        Where work outlives a round, it is for the client's next task, whichever round that begins in.
        """
        granted = self._ahead.get(client)
        if granted is None or (granted.lease.round != round_.index and not round_.carries):
            return None
        del self._ahead[client]
        return replace(granted, lease=self._store.take_up(granted.lease.id, round_.leased_until))

    def is_ahead(self, client: str) -> bool:
        """Whether the client has a lease that was granted ahead."""
        return client in self._ahead

    def drop(self, client: str, begun: bool = True) -> None:
        """Release the lease that the client was granted ahead, if it has one; it may have `begun` to train on it."""
        if granted := self._ahead.pop(client, None):
            self.release(granted.lease.id, "unused", begun)

    def drop_for(self, round: int) -> None:
        """Release all unused leases that were granted ahead for this round."""
        for client in [client for client, granted in self._ahead.items() if granted.lease.round == round]:
            self.drop(client)

    def drop_all(self) -> None:
        """Release all unused leases that were granted ahead."""
        for client in list(self._ahead):
            self.drop(client)

    def settle(self, update: UpdateFolded) -> None:
        """End the lease of a merged update; its rows up to the cursor are done."""
        self._ledger.settle(update.lease, update.row, update.token, tuple(Span(*span) for span in update.left))
        self._store.give_up(update.lease)

    def release(self, lease_id: int, reason: str, begun: bool = False) -> None:
        """End a lease and free all of its rows."""
        lease = self._store.give_up(lease_id)
        self._ledger.release(lease_id)
        if reason != "end":
            self._freed(lease.client, begun)
        self._emit(
            LeaseReleased(t=self._clock.now(), round=lease.round, client=lease.client, lease=lease.id, reason=reason)
        )

    def release_all(self) -> None:
        """End all leases, as the run ends."""
        self._ahead.clear()
        for lease in self._store.held():
            self.release(lease.id, "end")

    def _grant(self, client: str, round: int, steps: int, expires: float, ahead: int) -> Granted:
        pool = self._sites[client].pool
        lease = self._store.grant(client, round, expires, bool(ahead))
        rows = self._ledger.lease(lease.id, pool, self._plan.rows_for(pool, steps * self._plan.tokens_per_step))
        now = self._clock.now()
        self._emit(
            LeaseGranted(
                t=now,
                round=round,
                client=client,
                lease=lease.id,
                pool=pool,
                spans=rows.as_records(),
                expires=lease.expires,
                ahead=(ahead,) if ahead else (),
            )
        )
        return Granted(lease=lease, rows=rows, at=now, wall=wall(), ahead=ahead)
