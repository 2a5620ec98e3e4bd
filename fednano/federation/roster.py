"""Who is there: which clients are up, which of them are about to leave, and which are free for work."""

from collections.abc import Iterable

from fednano.volatility.membership import Members


class Roster:
    """The clients as the round loop knows them, brought up to date by `changes`.

    Args:
        membership: who is up at a time.
    """

    def __init__(self, membership: Members) -> None:
        self._membership = membership
        self._up: set[str] = set()
        self._present: tuple[str, ...] | None = ()  # `_up` in order, once someone asks
        self._leaving: set[str] = set()  # clients that drained and are still up
        self._busy: dict[str, str] = {}  # client → the message that it has not answered
        self._free: set[str] = set()  # clients that may have become idle since they were last taken

    def restore(self, up: Iterable[str], leaving: Iterable[str]) -> None:
        """Go on where the clients in `up` were up, and those in `leaving` had drained."""
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
        """Those of them that drained, in order of their names."""
        return sorted(self._leaving)

    @property
    def peers(self) -> int:
        """How many are up."""
        return len(self._up)

    def idle(self, clients: Iterable[str]) -> list[str]:
        """Those that could begin work now: up, not about to leave, not busy with anything older."""
        return [c for c in clients if c in self._up and c not in self._busy and c not in self._leaving]

    def take_free(self) -> list[str]:
        """The idle among those that may have become so since this was asked last, in order."""
        free, self._free = sorted(self._free, key=self._membership.rank), set()
        return self.idle(free)

    def set_free(self, clients: Iterable[str]) -> None:
        """These alone are looked at when somebody free is asked for next."""
        self._free = set(clients)

    def keep_free(self, client: str) -> None:
        """The client is to be looked at again, though it was not given work."""
        self._free.add(client)

    def asked(self, client: str, message_id: str) -> None:
        """The client has been given work."""
        self._busy[client] = message_id

    def answered(self, client: str, message_id: str) -> None:
        """The client is done with that message."""
        if self._busy.get(client) == message_id:
            del self._busy[client]
            self._free.add(client)

    def drained(self, client: str) -> None:
        """The client has submitted for good, and leaves."""
        self._leaving.add(client)

    def changes(self, now: float) -> tuple[list[str], list[str]]:
        """Who came and who went since this was asked last, in order; `left` is to be called for each who went."""
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
        """Forget a client that went; the message that it has not answered, if any."""
        self._leaving.discard(client)
        return self._busy.pop(client, None)
