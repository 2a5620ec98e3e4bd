"""The server's side of the coordination store in Redis. The server's memory is authoritative; Redis passes it on."""

import secrets
from collections.abc import Collection
from math import inf, isfinite
from queue import Empty, SimpleQueue
from typing import Any

from fednano.coordination.courier import MOST_S, Courier
from fednano.coordination.memory import MemoryStore
from fednano.coordination.redis_link import DAY_MS, HEARTBEAT_S, HEARTBEATS, NAME, Address, Link, RedisCommand
from fednano.coordination.sayings import LONGEST, Complaints, count_of, heartbeat_of, step_of, token_digest
from fednano.coordination.store import Heartbeat, Lease
from fednano.core.clock import Clock
from fednano.core.inner_step import InnerStep

ENDLESS_S = 3600.0  # a lease without an expiry, unless refreshed
PAGE = 1000  # steps per read
FLUSH_S = 5.0
MOST_NODES = 10_000  # names that are looked up, if the clients are not known
AHEAD_S = 3600.0  # a step from further ahead of Redis's own clock would hide all later ones


class RedisStore(MemoryStore):
    """A `LiveStore`. Only `sync` waits for the network: a thread sends changes to Redis.

    Lease numbers continue from those that Redis remembers of this run. An earlier server's leases and requests to stop
    or to drain are ended. If Redis restarts empty, the server repopulates it.

    Args:
        address: where Redis is.
        run: the run's id; all keys begin with it.
        clock: the run's clock.
        heartbeat_s: seconds between two heartbeats of a node.
        clients: the run's clients, the only ones that are heard; None: whoever is there.

    Raises:
        ValueError: Redis does not answer, or refuses the user.
    """

    def __init__(
        self,
        address: Address,
        run: str,
        clock: Clock,
        heartbeat_s: float = HEARTBEAT_S,
        clients: Collection[str] | None = None,
    ) -> None:
        super().__init__(make_token=lambda: secrets.token_hex(16))
        self._clock = clock
        self._grace_s = HEARTBEATS * heartbeat_s + MOST_S
        self._link = Link(address, run)
        self._link.check()
        self._clients = None if clients is None else frozenset(clients)
        self._complaints = Complaints()
        self._changed: SimpleQueue[int] = SimpleQueue()
        self._untold: set[int] = set()  # leases whose state in Redis may be out of date
        self._heartbeats: dict[str, Heartbeat] = {}
        self._kept_until = -inf  # until then, silent nodes may still be reconnecting to Redis
        self._refresh_at = clock.now()
        self._told: SimpleQueue[InnerStep] = SimpleQueue()
        self._acknowledged: set[int] = set()
        self._stopping: frozenset[str] = frozenset()
        self._take_up()
        self._courier = Courier(f"coordination store-{run}", self._visit, heartbeat_s / 2)
        self._courier.start()

    # What the server calls

    def grant(self, client: str, round: int, expires: float, ahead: bool = False) -> Lease:
        lease = super().grant(client, round, expires, ahead)
        self._tell(lease.id)
        return lease

    def take_up(self, lease: int, expires: float) -> Lease:
        taken = super().take_up(lease, expires)
        self._tell(lease)
        return taken

    def give_up(self, lease: int) -> Lease:
        given_up = super().give_up(lease)
        self._acknowledged.discard(lease)
        self._tell(lease)
        return given_up

    def skip(self, issued: int) -> None:
        super().skip(max(issued, self.issued()))

    def request_drain(self, lease: int, at: float) -> None:
        super().request_drain(lease, at)
        self._tell(lease)

    def request_stop(self) -> None:
        super().request_stop()
        self._courier.wake()

    def check_stop(self) -> None:
        self._courier.check()
        super().check_stop()

    def present(self) -> dict[str, Heartbeat]:
        """Heartbeats by client. No client is dropped while Redis is lost, nor until nodes had time to reconnect."""
        self._courier.check()
        return dict(self._heartbeats)

    def steps(self) -> list[InnerStep]:
        """The inner steps reported since the last call, in order of arrival."""
        self._courier.check()
        told = []
        while True:
            try:
                told.append(self._told.get_nowait())
            except Empty:
                return told

    def acknowledged(self, lease: int) -> bool:
        return lease in self._acknowledged

    def stopping(self) -> frozenset[str]:
        return self._stopping

    def sync(self, timeout_s: float = FLUSH_S) -> bool:
        """Wait until Redis has all earlier changes; returns False if it is lost."""
        return self._courier.visited(timeout_s)

    def refill(self) -> None:
        """Send Redis all leases in force again."""
        # A copy of the keys: another thread may grant leases meanwhile.
        for lease in list(self._leases):
            self._tell(lease)

    def close(self) -> None:
        """Send the last changes to Redis and end the thread. The keys left there expire."""
        self._courier.close()
        self._link.close()

    # What the thread does

    def _tell(self, lease: int) -> None:
        self._changed.put(lease)
        self._courier.wake()

    def _take_up(self) -> None:
        """Continue the numbering of an earlier server of this run, and end its leases and requests."""
        issued, newest = self._link.read(
            [("GET", self._link.key("issued")), ("XREVRANGE", self._link.key("steps"), "+", "-", "COUNT", 1)]
        )
        super().skip(count_of(issued) or 0)
        self._read_to = newest[0][0] if newest else "0"
        old = [k for kind in ("lease", "drain", "ack", "stopped") for k in self._link.keys(f"{kind}:*")]
        self._link.transact([("UNLINK", self._link.key("stop"), *old), self._issued()])

    def _visit(self) -> None:
        link, now = self._link, self._clock.now()
        self._note_changes(now)
        drains = [lease for lease in list(self._drains) if lease not in self._acknowledged]
        issued, names, pages, kind, time, *acks = link.read(
            [
                ("GET", link.key("issued")),
                ("SRANDMEMBER", link.key("nodes"), MOST_NODES),
                ("XREAD", "COUNT", PAGE, "STREAMS", link.key("steps"), self._read_to),
                ("TYPE", link.key("steps")),
                ("TIME",),
                *(("EXISTS", link.key("ack", lease)) for lease in drains),
            ]
        )
        self._acknowledged.update(lease for lease, known in zip(drains, acks, strict=True) if known)
        redis_now = int(time[0]) + int(time[1]) / 1e6
        self._read(pages, kind, redis_now)
        if issued is None:
            self.refill()
            self._note_changes(now)
            self._read_to = "0"
        if issued is None or not self._courier.connected:
            self._kept_until = now + self._grace_s
        self._read_heartbeats(sorted(self._heard(names or ())), now)
        link.transact([c for lease in sorted(self._untold) for c in self._state_of(lease, redis_now)] + self._always())
        self._untold.clear()

    def _note_changes(self, now: float) -> None:
        while True:
            try:
                self._untold.add(self._changed.get_nowait())
            except Empty:
                break
        if now >= self._refresh_at:
            self._untold.update(lease.id for lease in self.held() if not isfinite(lease.expires))
            self._refresh_at = now + ENDLESS_S / 4

    def _state_of(self, lease_id: int, redis_now: float) -> list[RedisCommand]:
        """The commands that bring a lease's state in Redis up to date."""
        link, now = self._link, self._clock.now()
        lease, drain = self._leases.get(lease_id), self._drains.get(lease_id, inf)
        keys = [link.key(kind, lease_id) for kind in ("lease", "drain", "ack")]
        if lease is None:
            return [("UNLINK", *keys)]
        left_ms = _ms(min(lease.expires - now, ENDLESS_S) if isfinite(lease.expires) else ENDLESS_S)
        told: list[RedisCommand] = [("SET", keys[0], token_digest(lease.token), "PX", left_ms)]
        if isfinite(drain):
            # In time of Redis's clock, which all nodes can read.
            told.append(("SET", keys[1], repr(redis_now + drain - now), "PX", left_ms))
        return told

    def _always(self) -> list[RedisCommand]:
        return [self._issued()] + ([("SET", self._link.key("stop"), 1, "PX", DAY_MS)] if self._stop else [])

    def _issued(self) -> RedisCommand:
        return ("SET", self._link.key("issued"), self.issued(), "PX", DAY_MS)

    def _read(self, pages: Any, kind: str, redis_now: float) -> None:
        """Take in the new entries of the stream of steps, whose key holds a value of type `kind`."""
        misplaced = kind not in ("stream", "none")
        for _, entries in pages or ():
            for at, fields in entries:
                self._read_to = at
                step = step_of(fields.get("step"))
                if step is None or not self._heard([step.client]):
                    self._complaints.say("steps", "an entry that is no step of a client")
                else:
                    self._told.put(step)
            if len(entries) == PAGE:
                self._courier.wake()
        if misplaced or int(self._read_to.partition("-")[0]) > (redis_now + AHEAD_S) * 1000:
            self._complaints.say("steps", "a value that is no stream of steps")
            self._link.transact([("UNLINK", self._link.key("steps"))])
            self._read_to = "0"

    def _heard(self, names: Collection[str]) -> list[str]:
        """Those of the run's clients among `names`; if they are not known, those that can be names."""
        if self._clients is None:
            return [name for name in names if NAME.fullmatch(name)]
        return [name for name in names if name in self._clients]

    def _read_heartbeats(self, names: list[str], now: float) -> None:
        if not names:
            fresh: dict[str, Heartbeat] = {}
        else:
            link = self._link
            # Never more than a heartbeat can be long, whatever stands there.
            said = link.read(
                [
                    *(("GETRANGE", link.key("heartbeat", name), 0, LONGEST) for name in names),
                    *(("EXISTS", link.key("stopped", name)) for name in names),
                ]
            )
            heartbeats, stopped = said[: len(names)], said[len(names) :]
            fresh = {}
            for name, text in zip(names, heartbeats, strict=True):
                heartbeat = heartbeat_of(text, name)
                if heartbeat:
                    fresh[name] = heartbeat
                elif text != "":
                    self._complaints.say(f"heartbeat:{name}", "no heartbeat of that client")
            self._stopping |= {name for name, known in zip(names, stopped, strict=True) if known}
        self._heartbeats = {**self._heartbeats, **fresh} if now < self._kept_until else fresh


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))
