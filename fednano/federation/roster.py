"""The roster of clients: which are up, which are about to leave, and which are free for work."""

from collections.abc import Iterable

from fednano.volatility.membership import Members


class Roster:
    """The clients as the round loop knows them; `changes` brings it up to date.

    Args:
        membership: knows which clients are up at a time.
    """

    def __init__(self, membership: Members) -> None:
        self._membership = membership
        self._up: set[str] = set()
        self._present: tuple[str, ...] | None = ()  # `_up` in order, computed on demand
        self._leaving: set[str] = set()  # clients that drained and are still up
        self._busy: dict[str, str] = {}  # client → the message that it has not answered
        self._free: set[str] = set()  # clients that may have become idle since they were last taken

    def restore(self, up: Iterable[str], leaving: Iterable[str]) -> None:
        """Resume where the clients in `up` were up and those in `leaving` had drained."""
        self._up, self._present = set(up), None
        self._leaving = set(leaving)

    @property
    def everyone(self) -> tuple[str, ...]:
        """The clients that are up, in order."""
        if self._present is None:
            self._present = tuple(sorted(self._up, key=self._membership.rank))
        return self._present

    @property
    def leaving(self) -> list[str]:
        """The clients that have drained and are still up, sorted by name."""
        return sorted(self._leaving)

    @property
    def peers(self) -> int:
        """The number of clients that are up."""
        return len(self._up)

    def idle(self, clients: Iterable[str]) -> list[str]:
        """Those of `clients` that can begin work now: up, not leaving, not busy."""
        return [c for c in clients if c in self._up and c not in self._busy and c not in self._leaving]

    def take_free(self) -> list[str]:
        """The clients that have become idle since the last call, in order."""
        free, self._free = sorted(self._free, key=self._membership.rank), set()
        return self.idle(free)

    def set_free(self, clients: Iterable[str]) -> None:
        """Make these the only candidates of the next `take_free`."""
        self._free = set(clients)

    def keep_free(self, client: str) -> None:
        """Keep the client a candidate of the next `take_free`, since it got no work."""
        self._free.add(client)

    def asked(self, client: str, message_id: str) -> None:
        """Mark the client as busy with a message."""
        self._busy[client] = message_id

    def answered(self, client: str, message_id: str) -> None:
        """Mark the client as idle if it was busy with that message."""
        if self._busy.get(client) == message_id:
            del self._busy[client]
            self._free.add(client)

    def drained(self, client: str) -> None:
        """Mark the client as leaving after its last submission."""
        self._leaving.add(client)

    def changes(self, now: float) -> tuple[list[str], list[str]]:
        """(arrived, departed) clients since the last call, in order; call `left` for each departed one."""
        moved = self._membership.moved(now)
        came = [c for c in moved if c not in self._up and self._membership.is_up(c, now)]
        went = [c for c in moved if c in self._up and not self._membership.is_up(c, now)]
        if moved:
            self._up.difference_update(went)
            self._up.update(came)
            self._present = None
            self._free.update(came)
        return came, went

    def left(self, client: str) -> str | None:
        """Forget a departed client; returns the message that it has not answered, if any."""
        self._leaving.discard(client)
        return self._busy.pop(client, None)
