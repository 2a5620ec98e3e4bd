"""How rounds end, what planners ask for, and a client that trains alone, on schedules made by hand.

Steps take 1 s and transfers 0.25 s unless a test says otherwise; H is 10 and a step has 4 tokens.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec import structs
from support.toy_federation import federate

from fednano.bench.planners import Play, goodput
from fednano.bench.planners import main as bench
from fednano.codec.fp32 import Fp32
from fednano.config.compose import compose_config
from fednano.coordination.memory import MemoryStore
from fednano.core.event_log import read_log
from fednano.core.events import (
    LeaseReleased,
    RoundMerged,
    RoundSkipped,
    RoundStarted,
    UpdateFolded,
    UpdateRefused,
    WorkDispatched,
    finite,
)
from fednano.experiment.experiment import Experiment
from fednano.federation.plan import Site
from fednano.federation.planner import Aware, Blind, Oracle
from fednano.federation.round_length import Rounds
from fednano.report.audit import audit
from fednano.volatility.availability import Availability, Window
from fednano.volatility.compose import Compose
from fednano.volatility.membership import Membership
from fednano.volatility.profiles import AlwaysOn, Markov
from fednano.volatility.speed import Speed, steady
from fednano.volatility.traced import Traced

ALWAYS = [Window(0, math.inf, "drain")]
H = 10


def played(
    *windows: Sequence[Window], rounds: int = 1, speeds: dict[str, Speed] | None = None, **settings: Any
) -> Play:
    membership = Membership({f"c{i}": Availability(iter(w)) for i, w in enumerate(windows)}, speeds)
    play = Play(membership=membership, rounds=rounds, local_steps=H, **settings)
    play.run()
    assert audit(play.events).violations == []
    return play


def asked(play: Play) -> list[tuple[str, int]]:
    return [(e.client, e.steps) for e in play.of(WorkDispatched)]


def done(play: Play) -> list[tuple[str, int, bool]]:
    return [(e.client, e.steps, e.drained) for e in play.of(UpdateFolded)]


# Planners


def test_blind_asks_for_all_and_the_client_drains() -> None:
    play = played(ALWAYS, [Window(0, 5.3, "drain")], planner=Blind())
    assert asked(play) == [("c0", 10), ("c1", 10)]
    assert done(play) == [("c1", 4, True), ("c0", 10, False)]


def test_aware_asks_for_what_fits_before_a_drain() -> None:
    play = played(ALWAYS, [Window(0, 5.3, "drain")], planner=Aware())
    assert asked(play) == [("c0", 10), ("c1", 4)]
    assert done(play) == [("c1", 4, False), ("c0", 10, False)]


def test_aware_knows_no_end_before_its_notice() -> None:
    play = played(ALWAYS, [Window(0, 5.3, "drain", notice_s=2)], planner=Aware())
    assert asked(play) == [("c0", 10), ("c1", 10)]
    assert done(play)[0] == ("c1", 4, True)


def test_aware_asks_nothing_of_who_has_no_time_for_a_step() -> None:
    short = [Window(0, 1.2, "drain")]
    assert [e.reason for e in played(ALWAYS, short, planner=Blind()).of(UpdateRefused)] == ["empty"]
    assert asked(played(ALWAYS, short, planner=Aware())) == [("c0", 10)]
    alone = [*short, Window(20, math.inf, "drain")]
    assert [e.t for e in played(alone, planner=Blind()).of(RoundSkipped)] == [0.5]
    later = played(alone, planner=Aware())
    assert [e.t for e in later.of(RoundStarted)] == [20]
    assert later.of(RoundSkipped) == []


def test_a_crash_surprises_all_but_the_oracle() -> None:
    crash = [Window(0, 5.3, "crash")]
    for planner in (Blind(), Aware()):
        assert [e.reason for e in played(ALWAYS, crash, planner=planner).of(LeaseReleased)] == ["crash"]
    play = played(ALWAYS, crash, planner=Oracle())
    assert asked(play) == [("c0", 10), ("c1", 4)]
    assert play.of(LeaseReleased) == []


def test_the_oracle_reckons_with_slow_clients() -> None:
    """Asked for 4 steps within 4.8 s, a client at half its speed has done 2 by then."""
    play = played(ALWAYS, [Window(0, 5.3, "crash")], planner=Oracle(), speeds={"c0": steady(), "c1": steady(0.5)})
    assert done(play)[0] == ("c1", 2, False)


def test_planners_that_foresee_plan_when_machines_leave() -> None:
    traced = {
        exit_: Traced(file="package:synthetic_marginal.csv", threshold=100.0, exit=exit_, hysteresis_s=600.0)
        for exit_ in ("drain", "crash")
    }
    parts = Compose("compose", "all", traced)
    for planner in (Blind(), Aware(), Oracle()):
        assert planner.plan(parts) is parts
    for planner, planned in ((Aware("foreseen"), [True, False]), (Oracle("foreseen"), [True, True])):
        foreseen = planner.plan(parts)
        assert [part.planned for part in foreseen.parts.values()] == planned
        assert planner.plan(AlwaysOn()) == AlwaysOn()
    assert not any(part.planned for part in parts.parts.values())
    for planner_type in (Aware, Oracle):
        with pytest.raises(ValueError, match=r"planner\.deprovision must be delayed or foreseen, got early"):
            planner_type("early")


def test_blind_rounds_of_steps_leave_the_event_logs_of_old() -> None:
    """The digest, of sorted JSON, is that of the round loop before there were planners."""

    def windows(i: int) -> list[Window]:
        profile = Markov(exit="mixed", crash_share=0.5, mean_up_s=25.0, mean_down_s=6.0)
        return [*profile.availability(f"c{i}", i, 3).until(200.0), Window(230.0 + i, math.inf, "drain")]

    digest = hashlib.sha256()
    for event in federate([windows(i) for i in range(4)], rounds=16, slack=1.1, rows=57).events:
        record = {"event": type(event).__name__, **structs.asdict(event)}
        left_out = {name for name in record if name.startswith("wall_") or record[name] in ((), "", None)}
        told = finite({name: value for name, value in record.items() if name not in left_out})
        digest.update(json.dumps(told, sort_keys=True).encode() + b"\n")
    assert digest.hexdigest() == "add3eb6d020a6c8730b186fbbd5a77b7f5d4e707ab427c98a7d6ccb416a4d9b5"


# How rounds end


def test_a_round_of_seconds() -> None:
    play = played(ALWAYS, ALWAYS, step_s=(1.0, 3.0), length=Rounds(until="seconds", seconds=10.0), rounds=2)
    assert done(play) == [("c0", 9, False), ("c1", 3, False)] * 2
    assert [e.t for e in play.of(RoundMerged)] == [9.5, 19.0]


def test_a_round_of_seconds_ends_for_slow_clients_too() -> None:
    play = played(
        ALWAYS,
        ALWAYS,
        length=Rounds(until="seconds", seconds=10.0),
        speeds={"c0": steady(), "c1": steady(0.5)},
        rounds=2,
    )
    assert asked(play)[:2] == [("c0", 9), ("c1", 9)]
    assert sorted(done(play)) == [("c0", 9, False)] * 2 + [("c1", 4, False)] * 2


def test_a_round_of_tokens_is_shared_out_by_speed() -> None:
    """12 steps: 9 s of training make 9 of 1 s and 3 of 3 s."""
    play = played(ALWAYS, ALWAYS, step_s=(1.0, 3.0), length=Rounds(until="tokens", tokens=48))
    assert sorted(done(play)) == [("c0", 9, False), ("c1", 3, False)]
    assert [e.tokens for e in play.of(RoundMerged)] == [48]


def test_late_joiners_make_up_for_tokens_that_were_lost() -> None:
    """10 steps are shared by two until 5.5 s; of the 5 lost at 2 s, 2 still fit for who comes at 3 s."""
    length, late = Rounds(until="tokens", tokens=40), [Window(3, math.inf, "drain")]
    assert asked(played(ALWAYS, [Window(0, 2, "crash")], late, length=length)) == [("c0", 5), ("c1", 5), ("c2", 2)]
    assert asked(played(ALWAYS, ALWAYS, late, length=length)) == [("c0", 5), ("c1", 5)]


# Alone


def test_alone_it_trains_on_until_another_comes() -> None:
    """The step that ends at 33.25 s is under way when c1 comes at 33 s."""
    play = played(ALWAYS, [Window(33, math.inf, "drain")], rounds=2, length=Rounds(elastic=True))
    assert asked(play) == [("c0", 100), ("c0", 10), ("c1", 10)]
    assert done(play)[0] == ("c0", 33, False)
    assert [e.t for e in play.of(RoundStarted)] == [0, 33.5]


def test_alone_it_hands_in_before_its_window_ends() -> None:
    play = played([Window(0, 20.4, "drain")], [Window(50, math.inf, "drain")], rounds=2, length=Rounds(elastic=True))
    assert done(play)[0] == ("c0", 19, True)
    assert [e.t for e in play.of(RoundStarted)] == [0, 50]


def test_alone_it_takes_no_more_than_so_many_rounds() -> None:
    alone = Rounds(elastic=True, alone=3)
    assert [e.steps for e in played(ALWAYS, rounds=2, length=alone).of(UpdateFolded)] == [30, 30]
    seconds = Rounds(until="seconds", seconds=10.0, elastic=True, alone=3)
    assert [e.steps for e in played(ALWAYS, rounds=2, length=seconds).of(UpdateFolded)] == [29, 29]
    assert [e.steps for e in played(ALWAYS, rounds=2).of(UpdateFolded)] == [10, 10]


def test_several_train_in_rounds_and_one_that_stays_trains_on() -> None:
    leaves = [Window(0, 12, "drain"), Window(60, math.inf, "drain")]
    play = played(ALWAYS, leaves, rounds=4, length=Rounds(elastic=True))
    assert [e.t for e in play.of(RoundStarted)] == [0, 10.5, 21, 60.5]
    assert [(e.client, e.steps) for e in play.of(UpdateFolded)][-3:-2] == [("c0", 39)]


def test_tokens_of_a_round_without_departures() -> None:
    # Steps of 1 s and of 2 s, 0.5 s of transfers: within 7 s six and three of them.
    sites = [
        Site(node_id=2, pool=0, step_s=1.0, down_s=0.25, up_s=0.25),
        Site(node_id=3, pool=0, step_s=2.0, down_s=0.25, up_s=0.25),
    ]
    assert Rounds().planned(sites, 10, 4) == 2 * 10 * 4
    assert Rounds(until="seconds", seconds=7.0).planned(sites, 10, 4) == (6 + 3) * 4
    assert Rounds(until="tokens", tokens=30).planned(sites, 10, 4) == 32


def test_to_train_alone_is_to_train_without_rounds(run: Callable[..., Any]) -> None:
    one = ("clients=1", "volatility.mean_up_s=1e9", "round.elastic=true", "strategy.local_steps=4", "optim.state=keep")
    plain = run(*one, "rounds=1", "round.alone=6", folder="plain")
    adopted = run(*one, "rounds=3", "round.alone=2", folder="adopted")
    assert plain["inner_steps"] == adopted["inner_steps"] == 24
    assert adopted["weights_sha256"] == plain["weights_sha256"]
    assert (
        run(*one, "rounds=6", "round.alone=1", "runtime=centralized", folder="c")["weights_sha256"]
        == plain["weights_sha256"]
    )
    outer = run(*one, "rounds=3", "round.alone=2", "round.alone_merge=outer", folder="outer")
    assert outer["weights_sha256"] != plain["weights_sha256"]
    # With others there the outer optimizer steps as ever.
    two = ("clients=2", *one[1:], "rounds=2")
    steps = {
        merge: run(*two, f"round.alone_merge={merge}", folder=f"two_{merge}")["weights_sha256"]
        for merge in ("outer", "adopt")
    }
    assert steps["outer"] == steps["adopt"]


def test_an_attacker_that_trains_alone_submits_corrupted_weights(run: Callable[..., Any]) -> None:
    """An outer step of SGD with a learning rate of 1 takes the same update."""
    alone = ("strategy=fedavg", "clients=1", "volatility.mean_up_s=1e9", "round.elastic=true", "rounds=1", "guard=none")
    attacks = (*alone, "strategy/client=byzantine", "strategy.client.attack=random")
    named = "strategy.client.clients=[client_0]"
    honest = run(*attacks, "strategy.client.clients=[]", folder="honest")
    adopted = run(*attacks, named, folder="adopted")
    merged = run(*attacks, named, "round.alone_merge=outer", folder="merged")
    assert adopted["val_bpb"] == pytest.approx(merged["val_bpb"], abs=1e-4)
    assert abs(adopted["val_bpb"] - honest["val_bpb"]) > 0.1


def test_weights_that_a_codec_would_change_are_not_submitted(tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fp32, "lossless", False)
    with pytest.raises(ValueError, match=r"round\.alone_merge=adopt needs .* codec=half; use round\.alone_merge=outer"):
        Experiment(compose_config([*tiny, "round.elastic=true", "codec.name=half"]))


def test_drain_requests_on_the_store() -> None:
    store = MemoryStore()
    lease = store.grant("a", 0, 9.0).id
    assert not store.drain_requested(lease, 5.0)
    store.request_drain(lease, 4.0)
    store.request_drain(lease, 6.0)
    assert [store.drain_requested(lease, t) for t in (3.9, 4.0)] == [False, True]
    store.give_up(lease)
    assert not store.drain_requested(lease, 5.0)


# Bad values, whole runs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"until": "epochs"}, "round.until must be steps, seconds or tokens, got epochs"),
        ({"until": "seconds"}, "round.seconds must be > 0 and finite under round.until=seconds, got None"),
        (
            {"until": "seconds", "seconds": -1.0},
            "round.seconds must be > 0 and finite under round.until=seconds, got -1.0",
        ),
        ({"until": "tokens", "tokens": 0}, "round.tokens must be > 0 and finite under round.until=tokens, got 0"),
        ({"seconds": 5.0}, "round.seconds must be null under round.until=steps, got 5.0"),
        (
            {"until": "seconds", "seconds": 5.0, "tokens": 5},
            "round.tokens must be null under round.until=seconds, got 5",
        ),
        ({"alone": 0}, "round.alone must be >= 1, got 0"),
        ({"alone_merge": "mean"}, "round.alone_merge must be outer or adopt, got mean"),
    ],
)
def test_bad_rounds(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rounds(**settings)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["round.elastic=true", "strategy.quorum=2"], "strategy.quorum must be 1 with round.elastic=true, got 2"),
        (["round=seconds", "rounds=null"], "rounds must be set with round.until=seconds, got null"),
        (["round=seconds", "round.seconds=0.5"], "round.seconds must be >= .* got 0.5"),
        (["round=tokens", "round.tokens=31"], "round.tokens must be >= 32, the tokens of one step, got 31"),
    ],
)
def test_choices_that_do_not_go_together(run: Callable[..., Any], overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(*overrides)


def test_a_run_of_seconds_and_its_baseline_train_the_same_tokens(run: Callable[..., Any]) -> None:
    choices = ("round=seconds", "round.seconds=6", "round.elastic=true", "planner=aware", "clients=2")
    federated = run(*choices, "hardware.tokens_per_s=[32,16]", folder="federated")
    central = run(*choices, "hardware.tokens_per_s=[32,16]", "runtime=centralized", folder="central")
    planned = next(read_log(federated["folder"] / "events.jsonl")).tokens_planned
    assert federated["tokens"] == planned
    assert federated["audit"]["violations"] == central["audit"]["violations"] == 0
    assert planned <= central["tokens"] < planned + 2 * 32
    again = run(*choices, "hardware.tokens_per_s=[32,16]", folder="again")
    assert again["tape_sha256"] == federated["tape_sha256"]


def test_goodput_by_hand() -> None:
    """In 10.5 s one client works 10 s; the other does until its crash at 5 s, which counts from dispatch."""
    shares = goodput(played(ALWAYS, [Window(0, 5, "crash")]))
    assert shares["goodput"] == pytest.approx(10 / 15.5)
    assert shares["lost"] == pytest.approx(5 / 15.5)
    assert shares["boundaries"] == pytest.approx(0.5 / 15.5)
    assert shares["crashes"] == 1


def test_the_bench_prints_a_row_for_each_planner(capsys) -> None:
    bench(["--hours", "0.2", "--up-s", "60", "--down-s", "60", "--local-steps", "10", "--json"])
    assert capsys.readouterr().out.count('"planner": "oracle"') == 2
