"""Who is up, seen from the server: the availability of all clients together."""

from collections.abc import Mapping, Sequence

from fednano.volatility.availability import Availability, Window
from fednano.volatility.profiles import Profile


class Membership:
    """The clients of a run and their availability, in the order of their names."""

    def __init__(self, availabilities: Mapping[str, Availability]) -> None:
        self._availabilities = dict(availabilities)

    @classmethod
    def draw(cls, profile: Profile, clients: Sequence[str], seed: int) -> "Membership":
        return cls({client: profile.availability(client, seed) for client in clients})

    @property
    def clients(self) -> tuple[str, ...]:
        return tuple(self._availabilities)

    def window(self, client: str, t: float) -> Window | None:
        """The client's window at `t`, or None while it is down."""
        return self._availabilities[client].window(t)

    def up(self, t: float) -> tuple[str, ...]:
        """The clients that are up at `t`."""
        return tuple(client for client in self._availabilities if self.window(client, t) is not None)

    def next_change(self, t: float) -> float:
        """The first time after `t` at which any client comes or goes; infinite if never."""
        return min(a.next_change(t) for a in self._availabilities.values())

    def up_seconds(self, client: str, until: float) -> float:
        """Seconds that the client is up within [0, until)."""
        return self._availabilities[client].up_seconds(until)
