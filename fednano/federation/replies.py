"""What becomes of the replies that have arrived: each is accumulated in its round or refused, with an event."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fednano.coordination.store import CoordinationStore, Lease
from fednano.core.clock import Clock
from fednano.core.events import ClientDown, Event, UpdateRefused
from fednano.federation.intake import Intake, Received
from fednano.federation.leases import Leases
from fednano.federation.pending import Pending
from fednano.federation.plan import Round
from fednano.federation.roster import Roster
from fednano.federation.transport import Reply, Transport
from fednano.strategy.base import ServerState


@dataclass(frozen=True, kw_only=True)
class Replies:
    """The replies of one federation, to the tasks that are pending; its other parts are kept up to date."""

    intake: Intake
    pending: Pending
    roster: Roster
    leases: Leases
    store: CoordinationStore
    clock: Clock
    emit: Callable[[Event], None]

    def collect(self, transport: Transport, round_: Round | None, state: ServerState) -> None:
        """Accumulate or refuse every reply that has arrived, one at a time; between rounds all are late."""
        for message_id in self.pending.answered(transport.arrived(), round_ is not None):
            if round_ and round_.full:
                return
            replies = transport.pull(message_id)
            if not replies:
                continue
            lease, late = self.pending.take(message_id)
            self.roster.answered(lease.client, message_id)
            outdated = self.pending.outdated(message_id)
            if late and replies[0].failed:
                continue  # its machine died, which is already recorded
            for copy, reply in enumerate(replies):
                self.intake.progress.bytes_up += reply.size
                if copy:
                    received = Received(refused="duplicate")  # the first copy has decided the lease's fate
                elif late or not round_:
                    received = Received(refused="stale" if outdated else "expired")
                else:
                    received = self._receive(reply, lease, round_, state)
                if received.refused:
                    self._refuse(lease, received.refused, reply.size, received.cause)

    def expire(self, leases: Iterable[Lease]) -> None:
        """Free the rows of clients that have not answered in time; their replies will be late."""
        for lease in leases:
            self.leases.release(lease.id, "expired")
            self.leases.drop(lease.client)

    def left(self, client: str, round_: Round | None, live: bool) -> None:
        """A client is gone; its lease is released if it has not submitted."""
        message = self.roster.left(client)
        lost = message if self.pending.wants(message) else None
        self.emit(ClientDown(t=self.clock.now(), client=client, exit="drain" if lost is None else "crash"))
        self.leases.drop(client)
        self.intake.slices.forget(client)
        if round_:
            round_.served.discard(client)
        if lost is not None:
            lease = self.pending.take_wanted(lost)
            self.leases.release(lease.id, "crash")
            if round_:
                round_.planned.pop(lease.id)
            if live:
                self.pending.late[lost] = lease
        elif message is not None and not live:
            del self.pending.late[message]
            self.pending.aged.discard(message)

    def _receive(self, reply: Reply, lease: Lease, round_: Round, state: ServerState) -> Received:
        """Accumulate a reply in the round, or refuse it."""
        received = self.intake.receive(reply, lease, round_, state)
        if received.drained:
            self.roster.drained(lease.client)
            self.leases.drop(lease.client, begun=False)  # it trains no further
        if received.accumulated:
            self.emit(received.accumulated)
        # A client that trains on already has a task more to do in a round that settles.
        if self.intake.pacing.waits or (round_.settles and not self.leases.is_ahead(lease.client)):
            round_.served.add(lease.client)  # also one whose work is of an earlier round
        else:
            round_.served.discard(lease.client)
        return received

    def _refuse(self, lease: Lease, reason: str, size: int, cause: str) -> None:
        self.emit(
            UpdateRefused(
                t=self.clock.now(),
                round=lease.round,
                client=lease.client,
                lease=lease.id,
                reason=reason,
                bytes=size,
                cause=cause,
            )
        )
        if reason != "duplicate" and self.store.holds(lease.id):
            self.leases.release(lease.id, "refused")
            self.leases.drop(lease.client)
