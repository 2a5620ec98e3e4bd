"""The node's side of the coordination store in Redis. Training never waits for Redis and continues without it."""

import hmac
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from math import inf

import msgspec

from fednano.coordination.courier import Courier
from fednano.coordination.redis_link import (
    DAY_MS,
    HEARTBEAT_S,
    HEARTBEATS,
    NAME,
    TIMEOUT_S,
    Address,
    Link,
    LostError,
    RedisCommand,
)
from fednano.coordination.sayings import count_of, number_of, said_step, token_digest
from fednano.coordination.store import Heartbeat, NameTakenError, StopRequestedError
from fednano.core.clock import Clock, pause
from fednano.core.inner_step import InnerStep

STEPS_KEPT = 10_000  # in the stream
STEPS_WAITING = 1000  # at the node, while Redis is lost

# Returns the name's owner if that is another node; otherwise takes the name and sets the heartbeat.
HEARTBEAT = """
local owner = redis.pcall('GET', KEYS[1])
if type(owner) == 'string' and owner ~= ARGV[1] then return owner end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[4])
if type(redis.pcall('SADD', KEYS[3], ARGV[3])) == 'table' then
  redis.call('DEL', KEYS[3])
  redis.call('SADD', KEYS[3], ARGV[3])
end
redis.call('PEXPIRE', KEYS[3], ARGV[5])
return false
"""
TELL = """
for i = 3, #ARGV do redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'step', ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return false
"""
LEAVE = """
if redis.pcall('GET', KEYS[1]) == ARGV[1] then redis.call('UNLINK', KEYS[1], KEYS[2]) end
return false
"""


@dataclass(frozen=True)
class _SeenLease:
    """A lease as last seen in Redis: the digest of its token, None if not in force; times on the node's clock."""

    lease: int
    digest: str | None = None
    expires: float = -inf
    drain_at: float = inf


class NodeStore:
    """A `Post`. All calls but `holds` and the first `heartbeat` return at once: a thread talks to Redis every second.

    While Redis is lost, a lease stays in force until its own expiry, and the last known requests hold.

    Args:
        address: where Redis is.
        run: the run's id.
        name: the client's name.
        clock: the node's clock.
        heartbeat_s: seconds between two heartbeats.

    Raises:
        ValueError: Redis does not answer or refuses the user, or the name cannot be part of a key.
    """

    def __init__(self, address: Address, run: str, name: str, clock: Clock, heartbeat_s: float = HEARTBEAT_S) -> None:
        if not NAME.fullmatch(name):
            raise ValueError(f"name must be 1 to 128 letters, digits, dots or dashes, got {name}; choose another name")
        self._name = name
        self._clock = clock
        self._ttl_s = HEARTBEATS * heartbeat_s
        self._link = Link(address, run)
        self._link.check()
        self._heartbeat: Heartbeat | None = None
        self._owner: str | None = None  # of the name, as last seen
        self._taking = False  # whether the first heartbeat waits for the name
        self._lease = -1
        self._seen: _SeenLease | None = None
        self._stop = False
        self._steps: deque[InnerStep] = deque(maxlen=STEPS_WAITING)
        self._courier = Courier(f"node-{name}", self._visit, heartbeat_s)
        self._courier.start()

    def heartbeat(self, heartbeat: Heartbeat) -> None:
        """Set the heartbeat, which is sent every second.

        The first call takes the name, and waits as long as a dead predecessor would still hold it.

        Raises:
            NameTakenError: another incarnation uses this name. All other calls raise it too, if that incarnation took
                the name while this node was out of reach.
        """
        self._courier.check()
        if heartbeat.name != self._name:
            raise ValueError(f"name must be {self._name}, this node's, got {heartbeat.name}; use {self._name}")
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
            return True  # not known yet, or Redis is lost: the server decides
        if seen.digest is None or not hmac.compare_digest(seen.digest.encode(), token_digest(token).encode()):
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
        """Report the last steps, end the thread and free the name."""
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
            f"name={self._name} is taken by another node (incarnation {self._owner}); stop that node or choose another "
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
        nodes, said = self._link.key("nodes"), msgspec.json.encode(heartbeat).decode()
        arguments = (heartbeat.incarnation, said, self._name, int(self._ttl_s * 1000), DAY_MS)
        (other,) = self._link.transact([("EVAL", HEARTBEAT, 3, *self._own_keys(), nodes, *arguments)])
        self._owner = other or heartbeat.incarnation
        if other and not self._taking and self._heartbeat is not None:
            raise self._taken()

    def _listen(self, lease: int) -> None:
        link = self._link
        time, issued, stop, digest, left_ms, due = link.read(
            [
                ("TIME",),
                *(("GET", link.key(kind)) for kind in ("issued", "stop")),
                ("GET", link.key("lease", lease)),
                ("PTTL", link.key("lease", lease)),
                ("GET", link.key("drain", lease)),
            ]
        )
        now = self._clock.now()
        if (granted := count_of(issued)) is None:
            return  # Redis restarted empty; the server will repopulate it
        known: list[RedisCommand] = []
        if stop:
            self._stop = True
            known.append(("SET", link.key("stopped", self._name), 1, "PX", DAY_MS))
        if digest is not None:
            redis_now = int(time[0]) + int(time[1]) / 1e6
            at = number_of(due)
            drain_at = now + at - redis_now if at is not None else inf
            self._seen = _SeenLease(lease, digest, now + left_ms / 1000, drain_at)
            if at is not None and left_ms > 0:
                known.append(("SET", link.key("ack", lease), 1, "PX", left_ms))
        elif lease < granted:
            self._seen = _SeenLease(lease)
        if known:
            link.transact(known)

    def _tell_steps(self) -> None:
        stream = self._link.key("steps")
        steps: list[str] = []
        while self._steps and len(steps) < STEPS_WAITING:
            steps.append(said_step(self._steps.popleft()))
        if steps:
            # Steps are only shown: if the stream takes none, they are lost and the node works on.
            self._link.transact([("EVAL", TELL, 1, stream, STEPS_KEPT, DAY_MS, *steps)])
