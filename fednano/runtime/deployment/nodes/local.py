"""Control over the nodes of a deployment on this machine: start, end, kill, pause, slow and cut off."""

import signal
from collections.abc import Mapping, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from fednano.process import tree
from fednano.runtime.deployment.nodes.proxy import Proxy


class Process(Protocol):
    """The interface of a node's process; `process/child.py` implements it."""

    @property
    def ended(self) -> int | None: ...

    @property
    def guard(self) -> int | None: ...

    def start(self) -> None: ...

    def ask(self) -> None: ...

    def stop(self) -> bool: ...


class LocalNodes:
    """Implements `NodeControl` and `Nodes`.

    Args:
        processes: by client. Signals to a whole node go to the descendants of its guard, not to the guard itself.
        links: by client, if nodes connect through proxies.
    """

    def __init__(self, processes: Mapping[str, Process], links: Mapping[str, Proxy]) -> None:
        self._processes = processes
        self._links = links
        self._paused: set[str] = set()
        self._shares: dict[str, float] = {}
        self._credit: dict[str, float] = {}

    def alive(self, client: str) -> bool:
        process = self._processes[client]
        return process.guard is not None and process.ended is None

    def start(self, client: str) -> None:
        """Start a node, after killing one that has not left in time."""
        self.kill(client)
        self._processes[client].stop()
        self._processes[client].start()

    def stop(self, client: str) -> None:
        """Let a node submit and end, and wait for it; kill it if that takes too long."""
        self._processes[client].stop()

    def terminate(self, client: str) -> None:
        if guard := self._guard(client):
            tree.send(guard, signal.SIGTERM)

    def kill(self, client: str) -> None:
        self._paused.discard(client)
        if guard := self._guard(client):
            tree.kill(guard)

    def pause(self, client: str) -> None:
        self._paused.add(client)
        if guard := self._guard(client):
            tree.freeze(guard)

    def resume(self, client: str) -> None:
        self._paused.discard(client)
        if guard := self._guard(client):
            tree.thaw(guard)

    def cut(self, client: str) -> None:
        self._links[client].cut()

    def mend(self, client: str) -> None:
        self._links[client].mend()

    def slow(self, client: str, share: float) -> None:
        """From now on, let the node run in this share of all ticks."""
        self._shares[client] = share

    def tick(self) -> None:
        """Let each slowed node run or stand still until the next tick. To be called at even intervals."""
        for client, share in list(self._shares.items()):
            if client in self._paused or not (guard := self._guard(client)):
                continue
            self._credit[client] = self._credit.get(client, 0.0) + share
            if self._credit[client] >= 1.0 - 1e-9:
                self._credit[client] -= 1.0
                tree.thaw(guard)
            else:
                tree.freeze(guard)
            if share >= 1.0:
                del self._shares[client]

    def close(self) -> None:
        """End all nodes at the same time, and their links. Paused nodes are killed, since they cannot submit."""
        for client in list(self._paused):
            self.kill(client)
        for process in self._processes.values():
            process.ask()
        for process in self._processes.values():
            process.stop()
        for link in self._links.values():
            link.close()

    def _guard(self, client: str) -> int | None:
        return self._processes[client].guard if self.alive(client) else None


def redis_server(url: str) -> list[tuple[str, int]]:
    """Host and port of a Redis server that a link can lead to.

    Empty for a Unix socket, and for TLS, which checks the server's host name.
    """
    parts = urlsplit(url)
    return [(parts.hostname, parts.port or 6379)] if parts.scheme == "redis" and parts.hostname else []


def rerouted(url: str, ports: Sequence[int]) -> str:
    """The URL of Redis through the port of a link on this machine; `url` itself without ports."""
    if not ports:
        return url
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return parts._replace(netloc=f"{user}@127.0.0.1:{ports[0]}" if user else f"127.0.0.1:{ports[0]}").geturl()
