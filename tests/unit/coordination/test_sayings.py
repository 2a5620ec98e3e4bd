"""What anybody with the Redis password can write: it raises nowhere, and counts no client up."""

import hashlib
import json
import logging
import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.awaiting import eventually

from fednano.coordination.embedded import EmbeddedRedis
from fednano.coordination.redis_link import Link, RedisCommand
from fednano.coordination.redis_node import NodeStore
from fednano.coordination.redis_store import RedisStore
from fednano.coordination.sayings import LONGEST, count_of, heartbeat_of, number_of, said_step, step_of, token_digest
from fednano.coordination.store import Heartbeat
from fednano.core.clock import RealClock
from fednano.core.inner_step import InnerStep

HEARTBEAT_S = 0.1
HEARTBEAT = Heartbeat(name="site_a", incarnation="first", ready=True, leaving=False, step_s=0.25, lease=-1)
STEP = InnerStep(client="site_a", round=0, step=1, steps=9, loss=2.0, tokens=512)
KINDS = ("issued", "nodes", "steps", "stop", "stopped:site_a", "name:site_a", "heartbeat:site_a", "lease:0", "drain:0")
FUZZ = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def store(server: EmbeddedRedis, run: str) -> Iterator[RedisStore]:
    with closing(RedisStore(server.address, run, RealClock(), HEARTBEAT_S, clients=("site_a", "site_b"))) as store:
        yield store


@pytest.fixture
def post(server: EmbeddedRedis, run: str) -> Iterator[NodeStore]:
    with closing(NodeStore(server.address, run, "site_a", RealClock(), HEARTBEAT_S)) as post:
        yield post


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
ANY_JSON = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


def nearly(record: Any) -> st.SearchStrategy[str]:
    """A record with a field replaced by anything, or left out, as JSON with Python's NaN and Infinity."""
    fields = st.sampled_from(sorted(vars(record)))
    changed = st.tuples(fields, ANY_JSON).map(lambda new: json.dumps({**vars(record), new[0]: new[1]}))
    lacking = fields.map(lambda name: json.dumps({k: v for k, v in vars(record).items() if k != name}))
    return changed | lacking | st.text() | ANY_JSON.map(json.dumps)


@FUZZ
@given(nearly(HEARTBEAT))
def test_a_heartbeat_has_its_types_and_limits_or_is_none(said: str) -> None:
    heard = heartbeat_of(said, "site_a")
    if heard is None:
        return
    assert (heard.name, type(heard.ready), type(heard.leaving)) == ("site_a", bool, bool)
    assert heard.step_s == 0.0 or 1e-6 <= heard.step_s <= 86_400.0
    assert -1 <= heard.lease <= 2**53 and 1 <= len(heard.incarnation) <= 128


@FUZZ
@given(nearly(STEP))
def test_a_step_has_its_types_and_limits_or_is_none(said: str) -> None:
    heard = step_of(said)
    if heard is not None:
        assert 1 <= heard.step <= heard.steps <= 2**53
        assert 0 <= heard.tokens <= 2**53 and 0 <= heard.round <= 2**53 and type(heard.loss) is float


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e308", "1e999", "-0.1", "1e-9", '"1"', "true", "[]"]
)
def test_a_speed_that_no_step_has_is_no_heartbeat(number: str) -> None:
    said = json.dumps(vars(HEARTBEAT))
    assert heartbeat_of(said, "site_a") == HEARTBEAT
    assert heartbeat_of(said.replace("0.25", number), "site_a") is None
    assert heartbeat_of(said, "site_b") is None, "a heartbeat of another client"
    assert heartbeat_of(said + " " * LONGEST, "site_a") is None
    assert heartbeat_of("[" * (LONGEST - 1), "site_a") is None


def test_a_loss_that_is_no_number_arrives_as_such() -> None:
    assert step_of(said_step(STEP)) == STEP
    for loss in (math.nan, math.inf):
        heard = step_of(said_step(replace(STEP, loss=loss)))
        assert heard is not None and math.isnan(heard.loss)


@FUZZ
@given(st.text() | st.none() | st.integers() | st.floats().map(repr))
def test_numbers_are_whole_or_finite_or_none(said: Any) -> None:
    count, number = count_of(said), number_of(said)
    assert count is None or 0 <= count <= 2**53
    assert number is None or math.isfinite(number)


def a_value(key: str) -> st.SearchStrategy[list[RedisCommand]]:
    """Commands that put anything under a key."""
    data: Any = st.binary(max_size=60) | nearly(HEARTBEAT) | nearly(STEP) | st.floats().map(repr)
    fresh = ("UNLINK", key)
    values = [
        data.map(lambda value: ("SET", key, value)),
        st.just(("SET", key, "x" * 100_000)),
        data.map(lambda value: ("LPUSH", key, value)),
        data.map(lambda value: ("SADD", key, value)),
        data.map(lambda value: ("HSET", key, "step", value)),
        data.map(lambda value: ("XADD", key, "*", "step", value)),
        data.map(lambda value: ("XADD", key, "9" * 19 + "-1", "step", value)),
        data.map(lambda value: ("XADD", key, "*", value, "")),
    ]
    return st.one_of(values).map(lambda command: [fresh, command])


@FUZZ
@given(st.data())
def test_whatever_stands_under_our_keys_nobody_counts_as_up_and_nothing_ends(
    store: RedisStore, link: Link, data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    commands = data.draw(a_value(link.key(kind)))
    known = () if kind == "nodes" else (("SADD", link.key("nodes"), "site_a", "site_b", "nobody"),)
    link.transact([*commands, *known])
    assert store.sync()
    store._courier.check()
    for name, heartbeat in store.present().items():
        # Only what is a heartbeat in every respect counts.
        assert name == heartbeat.name == "site_a" and math.isfinite(heartbeat.step_s)
    assert all(step.client in ("site_a", "site_b") for step in store.steps())
    link.transact([("UNLINK", link.key(kind))])


def test_a_node_and_its_server_hear_each_other_again(store: RedisStore, post: NodeStore, link: Link) -> None:
    """Keys of wrong types are replaced, or do without."""
    post.heartbeat(HEARTBEAT)
    lease = store.grant("site_a", 0, 500.0)
    store.request_drain(lease.id, 1e6)
    assert store.sync() and post.holds(lease.id, lease.token)
    for kind in KINDS:
        key = link.key(kind)
        link.transact([("UNLINK", key), ("LPUSH", key, "no text")])
        assert store.sync() and post._courier.visited(5.0), kind
    for kind in ("issued", "drain:0"):
        link.transact([("SET", link.key(kind), "inf")])
        assert store.sync() and post._courier.visited(5.0), kind
    store.refill()
    assert eventually(lambda: store.sync() and store.present() == {"site_a": HEARTBEAT})
    post.check_stop()
    assert eventually(lambda: post.holds(lease.id, lease.token))
    post.tell_step(STEP)
    assert eventually(lambda: store.steps() == [STEP])


def test_a_step_from_the_future_hides_none_of_the_present(store: RedisStore, post: NodeStore, link: Link) -> None:
    link.transact([("XADD", link.key("steps"), f"{2**63}-1", "step", said_step(STEP))])
    assert store.sync()
    assert store.steps() == [STEP]
    post.tell_step(replace(STEP, step=2))
    assert eventually(lambda: [step.step for step in store.steps()] == [2])


def test_strangers_are_not_heard_and_each_subject_is_warned_about_once(
    store: RedisStore, link: Link, caplog: pytest.LogCaptureFixture
) -> None:
    said = json.dumps({**vars(HEARTBEAT), "name": "nobody"})
    link.transact(
        [
            ("SADD", link.key("nodes"), "nobody", "a:b", "site_a"),
            *(("SET", link.key("heartbeat", name), said) for name in ("nobody", "a:b", "site_a")),
            ("XADD", link.key("steps"), "*", "step", said_step(replace(STEP, client="nobody"))),
        ]
    )
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert store.sync()
    assert (store.present(), store.steps()) == ({}, [])
    assert sorted(record.args[1] for record in caplog.records if record.args) == ["heartbeat:site_a", "steps"]  # type: ignore[index]


def test_who_reads_redis_cannot_submit_for_a_client(store: RedisStore, post: NodeStore, link: Link) -> None:
    lease = store.grant("site_a", 0, 500.0)
    assert store.sync()
    (held,) = link.transact([("GET", link.key("lease", lease.id))])
    assert held == token_digest(lease.token) == hashlib.sha256(lease.token.encode()).hexdigest()
    assert post.holds(lease.id, lease.token)
    assert not post.holds(lease.id, held)
    for key in link.keys("*"):
        (kind,) = link.transact([("TYPE", key)])
        if kind == "string":
            assert lease.token not in link.transact([("GET", key)])[0]


def test_the_numbering_goes_on_whatever_issued_says(server: EmbeddedRedis, run: str, link: Link) -> None:
    for command in (("SET", "-5"), ("SET", "1e30"), ("SET", "9" * 40), ("SET", b"\xff"), ("LPUSH", "3")):
        key = link.key("issued")
        link.transact([("UNLINK", key), (command[0], key, command[1])])  # type: ignore[list-item]
        with closing(RedisStore(server.address, run, RealClock(), HEARTBEAT_S)) as store:
            assert store.grant("site_a", 0, 500.0).id == 0
            assert store.sync()


def test_only_a_value_of_another_type_is_read_as_none(link: Link) -> None:
    wrong: list[RedisCommand] = [("SADD", link.key("a"), "x"), ("GET", link.key("a")), ("PING",)]
    assert link.read(wrong) == [1, None, True]
    with pytest.raises(RuntimeError, match="WRONGTYPE"):
        link.transact(wrong)
    with pytest.raises(RuntimeError, match="failed"):
        link.read([("EVAL", "return redis.error_reply('no')", 0)])
