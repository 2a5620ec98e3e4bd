"""Exactly once, whatever happens: random schedules through the real round loop and grid.

All that the protocol does falls on eighths of a second, and so do the windows: clients leave before, during and at the
end of downloads, steps and uploads. Replies come late and twice, leases expire, and the pool is read several times.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.hostile import hostile

from fednano.bench.planners import TOKENS, Play
from fednano.core.events import LeaseReleased, UpdateRefused
from fednano.federation.planner import Aware, Blind, Oracle
from fednano.federation.round_length import Rounds
from fednano.report.audit import audit
from fednano.volatility.availability import Availability, Window
from fednano.volatility.membership import Membership

EIGHTH = 0.125
FATES = ("in time", "twice", "twice, once later", "late")


@st.composite
def windows(draw: st.DrawFn) -> list[Window]:
    spans = draw(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 100), st.booleans()), max_size=5))
    t, made = 0.0, []
    for down, up, crash in spans:
        start = t + (down - 1 if not made else down) * EIGHTH
        t = start + up * EIGHTH
        made.append(Window(start, t, "crash" if crash else "drain", draw(st.sampled_from([math.inf, 1.0, EIGHTH]))))
    return [*made, Window(t + draw(st.integers(1, 40)) * EIGHTH, math.inf, "drain")]


LENGTHS = [
    Rounds(),
    Rounds(elastic=True, alone=3),
    Rounds(until="seconds", seconds=5.0),
    Rounds(until="seconds", seconds=5.0, elastic=True, alone=2),
    Rounds(until="tokens", tokens=40),
]


@st.composite
def plays(draw: st.DrawFn) -> Play:
    clients = draw(st.lists(windows(), min_size=1, max_size=4))
    local_steps, length = draw(st.integers(1, 5)), draw(st.sampled_from(LENGTHS))
    if length.until == "steps":
        chosen = draw(st.sampled_from(["fixed", "dynamic"]))
        length = replace(length, overlap=draw(st.integers(0, local_steps)), local_steps=chosen)
    return Play(
        membership=Membership({f"c{i}": Availability(iter(w)) for i, w in enumerate(clients)}),
        rounds=draw(st.integers(1, 6)),
        local_steps=local_steps,
        step_s=draw(st.sampled_from([(1.0,), (0.5, 1.0), (0.25, 1.5)])),
        transfer_s=draw(st.sampled_from([0.25, 1.0])),
        length=length,
        planner=draw(st.sampled_from([Blind(), Aware(), Oracle()])),
        quorum=draw(st.integers(1, len(clients))),
        slack=draw(st.sampled_from([1.0, 1.5])),
        rows=draw(st.integers(1, 12)),
        grid=hostile(draw(st.lists(st.sampled_from(FATES), max_size=20)), draw(st.sampled_from([EIGHTH, 4.0, 9.0]))),
    )


def check(play: Play) -> None:
    federation = play.run()
    checked = audit(play.events)
    assert checked.violations == []
    counts = federation.ledger.counts()
    assert (counts["lost"], counts["doubled"], counts["leased"]) == (0, 0, 0)
    assert counts["done"] == checked.rows_done == play.events[-1].tokens_total // TOKENS


def churn(schedules: int) -> Callable[..., Any]:
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=schedules, deadline=None, suppress_health_check=quiet)


@churn(300)
@given(plays())
def test_no_schedule_loses_or_doubles_a_row(play: Play) -> None:
    check(play)


@pytest.mark.slow
@churn(10_000)
@given(plays())
def test_ten_thousand_schedules_lose_and_double_no_row(play: Play) -> None:
    check(play)


def one(fate: str, late_s: float, **others: Any) -> Play:
    always = Membership({name: Availability(iter([Window(0, math.inf, "drain")])) for name in ("a", "b")})
    play = Play(membership=always, rounds=2, local_steps=4, grid=hostile([fate], late_s), **others)
    check(play)
    return play


def test_a_reply_that_comes_twice_is_folded_once() -> None:
    play = one("twice", 0.0)
    assert [e.reason for e in play.of(UpdateRefused)] == ["duplicate"]
    assert play.of(LeaseReleased) == []
    assert play.events[-1].tokens_total == 2 * 2 * 4 * 4


def test_a_reply_after_its_lease_expired_is_refused() -> None:
    play = one("late", 4.0)
    assert [e.reason for e in play.of(LeaseReleased)] == ["expired"]
    assert [e.reason for e in play.of(UpdateRefused)] == ["expired"]
