"""A node's side of a coordination store in Redis. The work never waits for it, and goes on without it."""

import hmac
import json
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import inf

from fednano.coordination.courier import Courier
from fednano.coordination.redis_link import (
    BEAT_S,
    BEATS,
    DAY_MS,
    NAME,
    TIMEOUT_S,
    Address,
    Command,
    Link,
    LostError,
)
from fednano.coordination.store import Heartbeat, NameTakenError, StopRequestedError
from fednano.core.clock import Clock, pause
from fednano.core.inner_step import InnerStep

STEPS_KEPT = 10_000  # in the stream
STEPS_WAITING = 1000  # at the node, while Redis is lost

# The name's owner, if it is another; else the name is ours and the heartbeat is told.
BEAT = """
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return owner end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[4])
redis.call('SADD', KEYS[3], ARGV[3])
redis.call('PEXPIRE', KEYS[3], ARGV[5])
return false
"""
LEAVE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('UNLINK', KEYS[1], KEYS[2]) end
return false
"""


@dataclass(frozen=True)
class _Seen:
    """What Redis said of a lease: its token, None where it is not in force; times on the node's clock."""

    lease: int
    token: str | None = None
    expires: float = -inf
    drain_at: float = inf


class NodeStore:
    """Implements `Post`. All but `holds` and the first `heartbeat` answer at once: a thread exchanges news each second.

    While Redis is lost, a lease is in force until its own expiry, and requests are those last known.

    Args:
        address: where Redis is.
        run: the run's id.
        name: the client's name.
        clock: the node's clock.
        beat_s: seconds between two heartbeats.

    Raises:
        ValueError: Redis does not answer, or not to us, or the name cannot be part of a key.
    """

    def __init__(self, address: Address, run: str, name: str, clock: Clock, heartbeat_s: float = BEAT_S) -> None:
        if not NAME.fullmatch(name):
            raise ValueError(f"name={name} cannot be part of a key; use letters, digits, dots and dashes")
        self._name = name
        self._clock = clock
        self._ttl_s = BEATS * heartbeat_s
        self._link = Link(address, run)
        self._link.check()
        self._heartbeat: Heartbeat | None = None
        self._owner: str | None = None  # of the name, when last seen
        self._taking = False  # the name is being waited for
        self._lease = -1
        self._seen: _Seen | None = None
        self._stop = False
        self._steps: deque[InnerStep] = deque(maxlen=STEPS_WAITING)
        self._courier = Courier(f"node-{name}", self._visit, heartbeat_s)
        self._courier.start()

    def heartbeat(self, heartbeat: Heartbeat) -> None:
        """What to say from now on, every second.

        The first call takes the name, and waits as long as a predecessor that died would still hold it.

        Raises:
            NameTakenError: another incarnation works under this name. Also raised by all other calls, where that one
                took the name while this node was away.
        """
        self._courier.check()
        if heartbeat.name != self._name:
            raise ValueError(f"name={heartbeat.name} is not this node's; heartbeat as {self._name}")
        last, self._heartbeat = self._heartbeat, heartbeat
        if last is None:
            self._take_name(heartbeat)
        elif heartbeat != last:
            self._courier.wake()

    def holds(self, lease: int, token: str) -> bool:
        self._follow(lease)
        if self._courier.connected:
            self._courier.visited(TIMEOUT_S)
        return self.may_hold(lease, token)

    def may_hold(self, lease: int, token: str) -> bool:
        self._courier.check()
        self._follow(lease)
        seen = self._seen
        if seen is None or seen.lease != lease:
            return True  # Redis has not been told yet, or is lost: the server has the last word
        if seen.token is None or not hmac.compare_digest(seen.token.encode(), token.encode()):
            return False
        return self._clock.now() < seen.expires

    def asked(self, lease: int, now: float) -> bool:
        self._courier.check()
        self._follow(lease)
        seen = self._seen
        return seen is not None and seen.lease == lease and seen.drain_at < inf and seen.drain_at <= now

    def check_stop(self) -> None:
        self._courier.check()
        if self._stop:
            raise StopRequestedError

    def tell_step(self, step: InnerStep) -> None:
        self._steps.append(step)

    def close(self) -> None:
        """Tell the last steps, end the thread and free the name."""
        self._courier.close()
        heartbeat = self._heartbeat
        if heartbeat is not None and self._courier.connected:
            with suppress(LostError):
                self._link.transact([("EVAL", LEAVE, 2, *self._own_keys(), heartbeat.incarnation)])
        self._link.close()

    def _take_name(self, heartbeat: Heartbeat) -> None:
        self._taking = True
        until = self._clock.now() + self._ttl_s + TIMEOUT_S
        while self._courier.visited(TIMEOUT_S) and self._owner != heartbeat.incarnation:
            if self._clock.now() > until:
                self._heartbeat = None
                raise self._taken()
            pause(self._ttl_s / 10)
        self._taking = False
        self._courier.check()

    def _taken(self) -> NameTakenError:
        return NameTakenError(
            f"name={self._name} is taken by another node (incarnation {self._owner}); stop that one, or choose another "
            "name"
        )

    def _follow(self, lease: int) -> None:
        if lease != self._lease:
            self._lease = lease
            self._courier.wake()

    # What the thread does

    def _visit(self) -> None:
        if self._heartbeat is not None:
            self._say(self._heartbeat)
        self._listen(self._lease)
        self._tell_steps()

    def _own_keys(self) -> tuple[str, str]:
        return self._link.key("name", self._name), self._link.key("heartbeat", self._name)

    def _say(self, heartbeat: Heartbeat) -> None:
        nodes, said = self._link.key("nodes"), json.dumps(asdict(heartbeat))
        arguments = (heartbeat.incarnation, said, self._name, int(self._ttl_s * 1000), DAY_MS)
        (other,) = self._link.transact([("EVAL", BEAT, 3, *self._own_keys(), nodes, *arguments)])
        self._owner = other or heartbeat.incarnation
        if other and not self._taking and self._heartbeat is not None:
            raise self._taken()

    def _listen(self, lease: int) -> None:
        link = self._link
        time, issued, stop, token, left_ms, due = link.transact(
            [
                ("TIME",),
                *(("GET", link.key(kind)) for kind in ("issued", "stop")),
                ("GET", link.key("lease", lease)),
                ("PTTL", link.key("lease", lease)),
                ("GET", link.key("drain", lease)),
            ]
        )
        now = self._clock.now()
        if issued is None:
            return  # Redis has lost everything, and the server will tell it again
        known: list[Command] = []
        if stop:
            self._stop = True
            known.append(("SET", link.key("stopped", self._name), 1, "PX", DAY_MS))
        if token is not None:
            redis_now = int(time[0]) + int(time[1]) / 1e6
            drain_at = now + float(due) - redis_now if due else inf
            self._seen = _Seen(lease, token, now + left_ms / 1000, drain_at)
            if due:
                known.append(("SET", link.key("ack", lease), 1, "PX", left_ms))
        elif lease < int(issued):
            self._seen = _Seen(lease)
        if known:
            link.transact(known)

    def _tell_steps(self) -> None:
        stream = self._link.key("steps")
        told: list[Command] = []
        while self._steps and len(told) < STEPS_WAITING:
            step = json.dumps(asdict(self._steps.popleft()))
            told.append(("XADD", stream, "MAXLEN", "~", STEPS_KEPT, "*", "step", step))
        if told:
            self._link.transact([*told, ("PEXPIRE", stream, DAY_MS)])
