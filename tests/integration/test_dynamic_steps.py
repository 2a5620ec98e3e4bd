"""Local steps in proportion to the clients' speed, on schedules made by hand and in whole runs.

Transfers take 0.25 s unless a test says otherwise; H is 10.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from support.runs import StopsAfter, assert_same

from fednano.bench.planners import Play
from fednano.config.compose import compose_config
from fednano.coordination.memory import MemoryStore
from fednano.core.event_log import read_log
from fednano.core.events import RoundMerged, RunStarted, UpdateFolded, UpdateRefused, WorkDispatched
from fednano.core.progress import Silent
from fednano.experiment.experiment import Experiment
from fednano.federation.plan import Site
from fednano.federation.round_length import Rounds
from fednano.report.audit import audit
from fednano.volatility.availability import Availability, Window
from fednano.volatility.membership import Membership

Run = Callable[..., dict[str, Any]]

ALWAYS = [Window(0, math.inf, "drain")]
H = 10
DYNAMIC = Rounds(local_steps="dynamic")


def played(*windows: Sequence[Window], step_s: tuple[float, ...], length: Rounds = DYNAMIC, **settings: Any) -> Play:
    membership = Membership({f"c{i}": Availability(iter(w)) for i, w in enumerate(windows)})
    play = Play(membership=membership, local_steps=H, step_s=step_s, length=length, **{"rounds": 1, **settings})
    play.run()
    assert audit(play.events).violations == []
    return play


def asked(play: Play) -> list[tuple[str, int]]:
    return [(e.client, e.steps) for e in play.of(WorkDispatched)]


def merged(play: Play) -> list[float]:
    return [e.t for e in play.of(RoundMerged)]


def test_steps_are_in_proportion_to_speed_and_nobody_waits_for_the_slowest() -> None:
    speeds = {"step_s": (1.0, 2.0, 3.0)}
    dynamic, fixed = played(ALWAYS, ALWAYS, ALWAYS, **speeds), played(ALWAYS, ALWAYS, ALWAYS, **speeds, length=Rounds())
    assert asked(dynamic) == [("c0", 10), ("c1", 5), ("c2", 3)]
    assert (merged(dynamic), merged(fixed)) == ([10.5], [30.5])


def test_every_client_takes_a_step_however_slow_it_is() -> None:
    slow = played(ALWAYS, ALWAYS, step_s=(1.0, 64.0))
    assert asked(slow) == [("c0", 10), ("c1", 1)]
    assert [e.reason for e in slow.of(UpdateRefused)] == []
    assert merged(slow) == [64.5]  # its deadline allows for that


@pytest.mark.parametrize(("step_s", "steps"), [((0.1, 0.3), 3), ((0.7, 2.1), 3), ((0.3, 0.9), 3), ((1.0, 1.0), 10)])
def test_whole_quotients_survive_rounding(step_s: tuple[float, float], steps: int) -> None:
    assert DYNAMIC.steps(step_s[1], step_s[0], 9 if steps == 3 else H) == steps


def test_speeds_are_compared_within_a_round() -> None:
    """c0, three times as fast, is up in the second round only."""
    play = played([Window(10, math.inf, "drain")], ALWAYS, ALWAYS, step_s=(1.0, 3.0, 3.0), rounds=2)
    assert asked(play) == [("c1", 10), ("c2", 10), ("c0", 10), ("c0", 10), ("c1", 3), ("c2", 3)]


def test_who_joins_late_gets_what_fits_and_at_most_h() -> None:
    late = [Window(5, math.inf, "drain")]
    assert asked(played(ALWAYS, late, step_s=(1.0, 2.0))) == [("c0", 10), ("c1", 2)]
    assert asked(played(ALWAYS, late, step_s=(1.0, 0.125))) == [("c0", 10), ("c1", 10)]


def test_alone_it_trains_on_as_ever() -> None:
    elastic = {"rounds": 2, "step_s": (1.0, 0.5)}
    windows = (ALWAYS, [Window(33, math.inf, "drain")])
    dynamic = played(*windows, length=Rounds(elastic=True, local_steps="dynamic"), **elastic)
    assert asked(dynamic) == [("c0", 100), ("c0", 5), ("c1", 10)]
    assert asked(dynamic)[0] == asked(played(*windows, length=Rounds(elastic=True), **elastic))[0]


def test_overlapped_steps_are_part_of_a_clients_steps() -> None:
    """Transfers of 2 s hide two steps of 2 s of c1's five, and four of c0's ten."""
    length = Rounds(overlap=8, local_steps="dynamic")
    play = played(ALWAYS, ALWAYS, step_s=(1.0, 2.0), length=length, rounds=3, transfer_s=2.0)
    assert asked(play) == [("c0", 10), ("c1", 5)] * 3
    assert merged(play) == [14, 24, 34]
    assert sorted((e.client, e.steps) for e in play.of(UpdateFolded)) == [("c0", 10)] * 3 + [("c1", 5)] * 3


def test_overlapped_steps_count_though_a_faster_client_has_come() -> None:
    """In the second round c1's share falls from 10 to 2, but it has taken 8 steps already."""
    length = Rounds(overlap=8, local_steps="dynamic")
    come = [Window(5, math.inf, "drain")]
    play = played(come, ALWAYS, step_s=(0.25, 1.0), length=length, rounds=2, transfer_s=8.0, slack=4.0)
    assert [e.reason for e in play.of(UpdateRefused)] == []
    assert ("c1", 8) in [(e.client, e.steps) for e in play.of(UpdateFolded) if e.round == 1]


def test_a_rounds_tokens_are_known_in_advance() -> None:
    sites = [Site(node_id=i, pool=0, step_s=s, down_s=0.25, up_s=0.25) for i, s in ((2, 1.0), (3, 2.0), (4, 3.0))]
    assert DYNAMIC.planned(sites, H, 4) == (10 + 5 + 3) * 4
    assert DYNAMIC.duration(sites, H, 4) == 10.5
    # The smallest round merges the slowest client's update alone; the shortest has the fastest client.
    assert DYNAMIC.least(sites, 1, H, 4) == (3 * 4, 10.5)
    assert DYNAMIC.central_steps(H, 90, 12) == 8


# Whole runs: clients of 32 and 12 tokens a second, H is 4.

RUN = ("round.local_steps=dynamic", "hardware.tokens_per_s=[32,12]", "clients=3")


def test_a_run_merges_what_was_planned_for_it(run: Run) -> None:
    one, again = run(*RUN, folder="one"), run(*RUN, folder="again")
    assert one["tape_sha256"] == again["tape_sha256"]
    events = list(read_log(one["folder"] / "events.jsonl"))
    (started,) = (e for e in events if isinstance(e, RunStarted))
    assert one["tokens"] == started.tokens_planned
    assert {(e.client, e.steps) for e in events if isinstance(e, WorkDispatched)} >= {("client_0", 4), ("client_1", 1)}
    analytic = run(*RUN, "runtime.compute=analytic", folder="analytic")
    assert analytic["tokens"] == one["tokens"]
    central = run(*RUN, "runtime=centralized", folder="central")
    assert 0 <= central["tokens"] - one["tokens"] < 3 * 32
    assert (central["rounds"], central["audit"]["violations"]) == (one["rounds"], 0)


@pytest.mark.parametrize("checks", [pytest.param(9, marks=pytest.mark.slow), 20])
def test_a_run_stopped_anywhere_ends_the_same(run: Run, checks: int) -> None:
    churn = (*RUN, "volatility.crash_share=0.5", "rounds=6", "checkpoint_every=2", "round.overlap=2")
    whole = run(*churn, folder="whole")
    assert run(*churn, store=StopsAfter(checks), folder="stopped")["status"] == "interrupted"
    assert_same(run(*churn, folder="stopped", resume=True), whole)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["round.local_steps=fast"], "round.local_steps must be fixed or dynamic, got fast"),
        (["round=seconds"], "must be fixed under round.until=seconds, which gives .*, got dynamic; use"),
        (["round=tokens"], "must be fixed under round.until=tokens, which gives .*, got dynamic; use"),
        (["rounds=null"], "rounds must be set with round.local_steps=dynamic, got null; set rounds, budget.tokens or"),
    ],
)
def test_where_it_makes_no_sense(tiny: list[str], overrides: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Experiment(compose_config([*tiny, "round.local_steps=dynamic", *overrides]))


def test_the_simulation_knows_no_speeds(steady: list[str]) -> None:
    experiment = Experiment(compose_config([*steady, "runtime=simulation", "round.local_steps=dynamic"]))
    with pytest.raises(ValueError, match=r"round\.local_steps must be fixed with runtime=simulation, .*, got dynamic"):
        experiment.parts(experiment.prepare(Silent()), MemoryStore())
