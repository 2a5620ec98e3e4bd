"""Happenings: a table of the clients that joined and left, and of the updates that were refused."""

from collections import deque

from fednano.core.events import (
    ClientDown,
    ClientUp,
    Event,
    ProvisionFailed,
    RoundSkipped,
    SignalLost,
    UpdateRefused,
)

HEARD = (ClientUp, ClientDown, UpdateRefused, RoundSkipped, SignalLost, ProvisionFailed)
COLUMNS = ("t", "event", "client", "round", "detail")
MOST = 10_000  # the last ones

Happening = tuple[float, str, str, int | None, str]


class Happenings:
    """The last `MOST` happenings of a run, as rows of `COLUMNS`; `t` is in seconds on the run's clock."""

    def __init__(self) -> None:
        self.rows: deque[Happening] = deque(maxlen=MOST)

    def add(self, event: Event) -> None:
        match event:
            case ClientUp():
                self.rows.append((event.t, "join", event.client, None, ""))
            case ClientDown():
                self.rows.append((event.t, event.exit, event.client, None, ""))
            case UpdateRefused():
                detail = f"{event.reason}: {event.cause}" if event.cause else event.reason
                self.rows.append((event.t, "refusal", event.client, event.round, detail))
            case RoundSkipped():
                self.rows.append((event.t, "skipped round", "", event.round, event.reason))
            case SignalLost():
                self.rows += [(event.t, "signal lost", client, None, event.cause) for client in event.clients]
            case ProvisionFailed():
                self.rows.append((event.t, "provision failed", event.client, None, f"{event.action}: {event.cause}"))
