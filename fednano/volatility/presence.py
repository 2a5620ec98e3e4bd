"""A client's view of its own availability: whether it may take another step, and whether its machine dies."""

from fednano.core.clock import Clock
from fednano.volatility.availability import Window
from fednano.volatility.membership import Membership


class ClientCrashedError(Exception):
    """The client's machine died with all that it held."""


class Presence:
    """Checks steps and transfers of one client against the window in which its current work began.

    Args:
        membership: the windows of all clients.
        client: name of the client.
        clock: the client's clock.
        submit_s: seconds reserved for submitting before the known end of a window.
    """

    def __init__(self, membership: Membership, client: str, clock: Clock, submit_s: float) -> None:
        self._membership = membership
        self._client = client
        self._clock = clock
        self._submit_s = submit_s
        self._window: Window | None = None

    def arrive(self, sent: float | None = None) -> None:
        """Begin work now. Raises ClientCrashedError if the client is down, or was down at any time since `sent`."""
        self._window = self._membership.window(self._client, self._clock.now())
        if self._window is None or (sent is not None and sent < self._window.start):
            raise ClientCrashedError(self._client)

    def may_step(self, step_s: float) -> bool:
        """Whether a step may begin; False: submit now. Raises ClientCrashedError if the machine dies during it."""
        return self.might_step(self._clock.now(), step_s)

    def might_step(self, at: float, step_s: float) -> bool:
        """`may_step` at a time in the window in which work began; the time may have passed."""
        assert self._window is not None, "work began without arrive()"
        ends = at + step_s
        foreseen = self._window.exit == "drain" and at >= self._window.stop - self._window.notice_s
        if not foreseen:
            if ends > self._window.stop:
                raise ClientCrashedError(self._client)
            return True
        return ends + self._submit_s <= self._window.stop

    def survives(self, until: float) -> bool:
        """Whether the client is still up at `until`, in the window in which its work began."""
        return self._window is not None and until <= self._window.stop
