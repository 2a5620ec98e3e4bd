"""The tasks that have not been answered: those of the round, those of earlier rounds, and those given up."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fednano.coordination.store import Lease
from fednano.federation.plan import Carried, Round


@dataclass(kw_only=True)
class Pending:
    """Leases by the ids of the messages that their tasks were sent in. A message is in one of the three at most.

    Args:
        current: tasks of the round in progress.
        carried: tasks of earlier rounds whose updates are still wanted.
        late: tasks whose lease has expired; their replies are refused.
        aged: those of them that started from weights too old to be merged.
    """

    current: dict[str, Lease] = field(default_factory=dict)
    carried: dict[str, Carried] = field(default_factory=dict)
    late: dict[str, Lease] = field(default_factory=dict)
    aged: set[str] = field(default_factory=set)

    @property
    def wanted(self) -> bool:
        """Whether an update may still come that would be merged."""
        return bool(self.current or self.carried)

    @property
    def quiet(self) -> bool:
        """Whether no reply is on its way, between two rounds."""
        return not (self.late or self.carried)

    def clients(self) -> Iterator[str]:
        """The clients that still work on tasks of earlier rounds."""
        return (work.lease.client for work in self.carried.values())

    def answered(self, arrived: Iterable[str] | None, within_round: bool) -> list[str]:
        """Those of the messages that `arrived` which are known: first the wanted ones, then the late, each in order.

        Between rounds, carried ones are left until the next begins. None: any of them may have arrived.
        """
        if arrived is None:
            return [*(self.carried if within_round else ()), *self.current, *self.late]
        wanted, late = [], []
        for message_id in arrived:  # there may be a thousand that are carried, and one that has arrived
            if lease := self.late.get(message_id):
                late.append((lease.id, message_id))
            elif lease := self.current.get(message_id):
                wanted.append((lease.id, message_id))
            elif within_round and (work := self.carried.get(message_id)):
                wanted.append((work.lease.id, message_id))
        return [message_id for _, message_id in (*sorted(wanted), *sorted(late))]

    def take(self, message_id: str) -> tuple[Lease, bool]:
        """Forget a message; returns its lease, and whether it was late."""
        if lease := self.late.pop(message_id, None):
            return lease, True
        return self.take_wanted(message_id), False

    def take_wanted(self, message_id: str) -> Lease:
        if work := self.carried.pop(message_id, None):
            return work.lease
        return self.current.pop(message_id)

    def wants(self, message_id: str | None) -> bool:
        return message_id in self.current or message_id in self.carried

    def carry(self, round_: Round) -> None:
        """Leave the round's tasks to later rounds."""
        for message_id, lease in self.current.items():
            self.carried[message_id] = Carried(
                lease=lease, steps=round_.planned[lease.id], given=round_.given[lease.id]
            )
        self.current.clear()

    def give_up(self) -> list[Lease]:
        """Take all that are wanted for late; returns their leases."""
        wanted = self.current | {message_id: work.lease for message_id, work in self.carried.items()}
        self.late |= wanted
        self.forget_wanted()
        return list(wanted.values())

    def give_up_older(self, version: int) -> list[Lease]:
        """Take those for late that start from weights before this version; returns their leases."""
        if version <= 0:  # as at every merge without a bound on staleness
            return []
        old = {i: work.lease for i, work in self.carried.items() if work.given.version < version}
        for message_id in old:
            del self.carried[message_id]
        self.late |= old
        self.aged |= old.keys()
        return list(old.values())

    def outdated(self, message_id: str) -> bool:
        """Whether a late task started from weights too old to be merged; asked once, when its reply has come."""
        known = message_id in self.aged
        self.aged.discard(message_id)
        return known

    def forget_wanted(self) -> None:
        self.current.clear()
        self.carried.clear()
