"""Attendance: which nodes of a deployment should run now; all of them always, as chaos says, or as a signal says."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from fednano.coordination.redis_link import Address, Link, LostError
from fednano.core.events import Event, SignalLost
from fednano.runtime.deployment.nodes.chaos import Chaos
from fednano.runtime.deployment.nodes.local import LocalNodes
from fednano.runtime.deployment.nodes.polling import SignalError
from fednano.runtime.deployment.nodes.provision import Provisioning
from fednano.runtime.deployment.nodes.signals import Watch


@dataclass(frozen=True)
class Reach:
    """What an attendance works with: the local nodes, a sink for events, and a reader of the store's keys."""

    nodes: LocalNodes
    tell: Callable[[Event], None]
    value: Callable[[str], str | None]


def store_value(address: Address, run: str, key: str) -> str | None:
    """The value of a key in a run's coordination store; None if it is not set. Raises SignalError."""
    with closing(Link(address, run)) as link:
        try:
            (value,) = link.transact([("GET", link.key(key))])
        except LostError as error:
            raise SignalError(f"Redis at {address.host} does not answer") from error
        except RuntimeError as error:
            raise SignalError(f"{key} in Redis holds no text ({error})") from error
    return None if value is None else str(value)


class Attendance(Protocol):
    """The conductor's source of which nodes should run; `t` is in real seconds since the run began."""

    def begin(self, t: float) -> bool:
        """Start the nodes that should run at `t`; returns whether there may be any."""

    def tend(self, t: float) -> None:
        """Start and end nodes as is due at `t`. Does not wait for any node."""

    def expects(self, client: str) -> bool:
        """Whether the client's node should run; if it does not, it has died."""

    def close(self) -> None:
        """End all nodes."""


class Steady:
    """All nodes run all the time."""

    def __init__(self, clients: Sequence[str], nodes: LocalNodes) -> None:
        self._clients = clients
        self._nodes = nodes

    def begin(self, t: float) -> bool:
        for client in self._clients:
            self._nodes.start(client)
        return True

    def tend(self, t: float) -> None:
        """Nothing to do."""

    def expects(self, client: str) -> bool:
        return True

    def close(self) -> None:
        self._nodes.close()


class Chaotic:
    """Nodes come, go and crash as a volatility profile says."""

    def __init__(self, chaos: Chaos, clients: Sequence[str], nodes: LocalNodes) -> None:
        self._chaos = chaos
        self._clients = clients
        self._nodes = nodes

    def begin(self, t: float) -> bool:
        self._chaos.skip(t)
        self._chaos.enact(t)
        return any(map(self.expects, self._clients))

    def tend(self, t: float) -> None:
        self._chaos.enact(t)
        self._nodes.tick()

    def expects(self, client: str) -> bool:
        return self._chaos.expects(client)

    def close(self) -> None:
        self._nodes.close()


class ProvisionedNodes:
    """Nodes are provisioned and released as a signal says."""

    def __init__(
        self,
        provisioning: Provisioning,
        watch: Watch,
        clients: Sequence[str],
        nodes: LocalNodes,
        tell: Callable[[Event], None],
    ) -> None:
        self._provisioning = provisioning
        self._watch = watch
        self._clients = clients
        self._nodes = nodes
        self._tell = tell

    def begin(self, t: float) -> bool:
        self.tend(t)
        return any(self._watch.wanted(client, t) for client in self._clients)

    def tend(self, t: float) -> None:
        self._provisioning.follow({client: self._watch.wanted(client, t) for client in self._clients})
        for clients, cause in self._watch.lost():
            self._tell(SignalLost(t=t, clients=clients, cause=cause))

    def expects(self, client: str) -> bool:
        return self._provisioning.has(client)

    def close(self) -> None:
        self._watch.close()
        try:
            self._provisioning.close()
        finally:
            self._nodes.close()
