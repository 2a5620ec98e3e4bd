"""When a round ends and what becomes of what comes later: grace, late updates, and clients that never wait.

A client takes H = 10 steps of 1 s and 0.25 s for each transfer; its update is the number of its steps.
"""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hostile import hostile
from support.toy_federation import H, Outcome, federate

from fednano.config.compose import compose_config
from fednano.core.events import LeaseReleased, RoundMerged, RoundSkipped, UpdateFolded, UpdateRefused, WorkDispatched
from fednano.experiment.experiment import Experiment
from fednano.report.history import History
from fednano.strategy.outer.sgd import SGD
from fednano.strategy.pacing import Pacing
from fednano.strategy.synchronous import Synchronous
from fednano.volatility.availability import Window

ALWAYS = Window(0, math.inf, "drain")


def from_(start: float) -> Window:
    return Window(start, math.inf, "drain")


def strategy(**keys: Any) -> Synchronous:
    return Synchronous(**{"name": "x", "outer": SGD(1.0), "local_steps": H, **keys})


def weight(outcome: Outcome) -> float:
    return outcome.federation.state.weights["w"].item()


def merged(outcome: Outcome) -> list[list[tuple[str, int]]]:
    """(client, base version) of the updates of each merge."""
    by_lease = {e.lease: (e.client, e.version) for e in outcome.of(UpdateFolded)}
    return [[by_lease[lease] for lease in e.leases] for e in outcome.of(RoundMerged)]


BUFFERED = {"quorum": 2, "grace": 0.0, "late": "next", "waits": False}


def test_a_round_closes_within_its_grace() -> None:
    """The reply of c0 is 9 s late: at 19.5 s in place of 10.5 s."""

    def played(**keys: Any) -> Outcome:
        return federate([[ALWAYS]] * 3, rounds=2, strategy=strategy(slack=3.0, **keys), grid=hostile(["late"], 9.0))

    assert next((e.t, len(e.leases)) for e in played().of(RoundMerged)) == (19.5, 3)
    refused = played(quorum=2, grace=1.0)
    assert next((e.t, len(e.leases)) for e in refused.of(RoundMerged)) == (11.5, 2)
    assert [(e.client, e.reason) for e in refused.of(UpdateRefused)] == [("c0", "expired")]
    carried = played(quorum=2, grace=1.0, late="next")
    assert merged(carried)[0] == [("c1", 0), ("c2", 0)]
    assert ("c0", 0) in merged(carried)[1] and not carried.of(UpdateRefused)
    assert next(e.t for e in played(quorum=3, grace=1.0).of(RoundMerged)) == 19.5  # there is no quorum to begin with


def test_each_update_is_merged_as_it_comes_and_older_ones_are_damped() -> None:
    """Three clients submit at once; merged one by one, they are 0, 1 and 2 versions behind."""
    outcome = federate([[ALWAYS]] * 3, rounds=4, strategy=strategy(quorum=1, grace=0.0, late="next", waits=False))
    assert merged(outcome)[:3] == [[("c0", 0)], [("c1", 0)], [("c2", 0)]]
    first = [e.t for e in outcome.of(RoundMerged)][:3]
    assert first == [first[0]] * 3
    # The last round settles: c0, c1 and c2 are 2, 1 and 0 versions behind, and weigh alike in the mean.
    assert merged(outcome)[3] == [("c0", 1), ("c1", 2), ("c2", 3)]
    damped = [1.0, 1 / math.sqrt(2), 1 / math.sqrt(3)]
    assert weight(outcome) == pytest.approx(-H * (sum(damped) + sum(damped) / 3), rel=1e-6)
    keys = {"quorum": 1, "grace": 0.0, "late": "next", "waits": False, "staleness_discount": False}
    alike = federate([[ALWAYS]] * 3, rounds=4, strategy=strategy(**keys))
    assert merged(alike) == merged(outcome)
    assert weight(alike) == pytest.approx(-H * 4, rel=1e-6)


def test_a_buffer_of_all_clients_is_fedavg() -> None:
    buffered = federate([[ALWAYS]] * 3, rounds=4, strategy=strategy(**{**BUFFERED, "quorum": 3}))
    plain = federate([[ALWAYS]] * 3, rounds=4, strategy=strategy())
    assert weight(buffered) == weight(plain)
    assert [len(m) for m in merged(buffered)] == [len(m) for m in merged(plain)] == [3] * 4


def test_clients_that_do_not_wait_begin_anew_from_the_version_that_there_is() -> None:
    """c1 comes 5 s later: c0's second task begins while the buffer holds one update, from version 0."""
    outcome = federate([[ALWAYS], [from_(5.0)]], rounds=3, strategy=strategy(**BUFFERED))
    assert merged(outcome)[0] == [("c0", 0), ("c1", 0)]
    assert merged(outcome)[1] == [("c0", 0), ("c1", 1)]
    waiting = federate([[ALWAYS], [from_(5.0)]], rounds=3, strategy=strategy(**{**BUFFERED, "waits": True}))
    assert merged(waiting)[1] == [("c0", 1), ("c1", 1)]


def test_work_that_is_too_old_is_given_up_and_its_rows_are_free_again() -> None:
    keys = {"quorum": 1, "grace": 0.0, "late": "next", "waits": False, "max_staleness": 1}
    outcome = federate([[ALWAYS]] * 4, rounds=6, strategy=strategy(**keys))
    given_up = [e for e in outcome.of(LeaseReleased) if e.reason == "expired"]
    assert given_up and len(outcome.of(UpdateRefused)) <= len(given_up)
    assert {e.reason for e in outcome.of(UpdateRefused)} == {"stale"}
    versions = {e.lease: e.version for e in outcome.of(UpdateFolded)}
    for event in outcome.of(RoundMerged)[:-1]:
        assert all(event.version - 1 - versions[lease] <= 1 for lease in event.leases)


def test_a_client_whose_late_update_is_merged_waits_for_the_merge() -> None:
    """c0 answers at 19.5 s, in the second round, which lasts until 23 s."""
    keys = {"slack": 3.0, "quorum": 2, "grace": 1.0, "late": "next"}
    outcome = federate([[ALWAYS]] * 3, rounds=3, strategy=strategy(**keys), grid=hostile(["late"], 9.0))
    given = [(e.client, e.round) for e in outcome.of(WorkDispatched)]
    assert ("c0", 1) not in given and ("c0", 2) in given and len(set(given)) == len(given)


def test_a_client_whose_update_is_refused_gets_new_work_at_once_too() -> None:
    def spoiled(task: Any, result: Any, delta: Any) -> Any:
        return result, {"w": delta["w"] * math.nan} if task.client == "c0" and task.lease == 0 else delta

    keys = {**BUFFERED, "quorum": 3, "slack": 3.0}
    outcome = federate([[ALWAYS]] * 2, rounds=2, strategy=strategy(**keys), spoil=spoiled)
    assert [(e.client, e.t) for e in outcome.of(UpdateRefused)] == [("c0", 10.5)]
    assert [(e.client, e.t) for e in outcome.of(WorkDispatched)][2:4] == [("c0", 10.5), ("c1", 10.5)]


def test_work_that_outlives_its_round_is_drawn_once() -> None:
    history = History()
    outcome = federate([[ALWAYS]] * 3, rounds=6, strategy=strategy(quorum=1, grace=0.0, late="next", waits=False))
    for event in outcome.events:
        history.add(event)
    history.finish()
    bars = [bar for lane in history.lanes.values() for bar in lane.bars]
    assert len(bars) == len(outcome.of(UpdateFolded)) == len(outcome.of(WorkDispatched))
    assert {bar.kind for bar in bars} == {"full"}


def test_a_client_that_crashes_in_a_later_round_loses_its_work() -> None:
    windows = [[ALWAYS], [from_(2.0)], [Window(0, 14.0, "crash")]]
    outcome = federate(windows, rounds=5, strategy=strategy(quorum=1, grace=0.0, late="next"))
    assert [e.client for e in outcome.of(LeaseReleased) if e.reason == "crash"] == ["c2"]
    assert not outcome.of(RoundSkipped)


@pytest.mark.parametrize("examples", [100, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_schedule_loses_or_doubles_a_row(examples: int) -> None:
    settings(max_examples=examples, deadline=None)(given(data=st.data())(play))()


def play(data: st.DataObject) -> None:
    """`federate` audits the event log and counts the rows of the ledger."""
    clients = data.draw(st.integers(1, 5))

    def windows() -> list[Window]:
        ends = sorted(data.draw(st.lists(st.integers(1, 120), min_size=0, max_size=8, unique=True)))
        exits = [data.draw(st.sampled_from(["drain", "crash"])) for _ in ends[1::2]]
        spans = [Window(*span, exit_) for span, exit_ in zip(zip(ends[::2], ends[1::2], strict=False), exits)]  # noqa: B905
        return [*spans, Window(130, math.inf, "drain")]

    waits = data.draw(st.booleans())
    late = "next" if not waits else data.draw(st.sampled_from(["refuse", "next"]))
    keys = {
        "quorum": data.draw(st.integers(1, clients)),
        "grace": data.draw(st.sampled_from([0.0, 0.0, 3.0, 30.0])),
        "late": late,
        "max_staleness": data.draw(st.sampled_from([1, 2, 10])) if late == "next" else None,
        "waits": waits,
    }
    outcome = federate([windows() for _ in range(clients)], rounds=8, strategy=strategy(**keys), rows=300)
    assert math.isfinite(weight(outcome))
    for event in outcome.of(UpdateFolded):
        assert event.version <= event.round


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"grace": -1.0}, r"strategy\.grace must be >= 0 and finite, got -1\.0; use seconds, or null"),
        ({"late": "never"}, r"strategy\.late must be refuse or next, got never"),
        ({"max_staleness": 0}, r"strategy\.max_staleness must be >= 1, got 0"),
        ({"max_staleness": 2}, r"strategy\.max_staleness must be null with strategy\.late=refuse, got 2"),
        ({"waits": False}, r"strategy\.waits must be true unless strategy\.late=next and strategy\.grace is a number"),
        ({"waits": False, "late": "next"}, r"got false with late=next and grace=null; such a round would never end"),
    ],
)
def test_bad_keys_are_named(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        strategy(**keys)


def test_defaults_are_rounds_that_wait_for_everyone() -> None:
    assert Pacing.of(object()) == Pacing.of(strategy()) == Pacing()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "round.elastic=true",
            r"round\.elastic must be false with strategy\.late=next, got true; work that outlives a r",
        ),
        ("round.overlap=2 optim.state=keep", r"round\.overlap must be 0 with strategy\.late=next, got 2"),
        ("round=seconds", r"round\.until must be steps with strategy\.late=next, got seconds"),
        ("strategy/merging=median", r"strategy\.late must be refuse with strategy\.merging=Median, which lets no upda"),
        ("strategy/dp=gaussian", r"strategy\.late must be refuse with strategy\.dp, .*, or strategy/dp=none"),
        ("rounds=null", r"rounds must be set with strategy\.late=next, got null; .*, so set rounds, budget\.tokens or"),
    ],
)
def test_what_does_not_go_with_late_updates_is_refused(words: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Experiment(compose_config(["strategy.late=next", *words.split()]))
