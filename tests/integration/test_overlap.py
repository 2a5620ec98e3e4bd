"""`round.overlap`: steps that a client takes while its update travels, on schedules and weights worked out by hand.

Steps take 1 s; H is 10 and a step has 4 tokens.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from support.event_logs import volatile_run
from support.hostile import hostile
from support.runs import StopsAfter, assert_same

from fednano.bench.planners import Play, goodput
from fednano.config.compose import compose_config
from fednano.coordination.memory import MemoryStore
from fednano.core.clock import Clock, VirtualClock
from fednano.core.event_log import read_log
from fednano.core.events import (
    Event,
    LeaseGranted,
    LeaseReleased,
    RoundMerged,
    RoundSkipped,
    RunStarted,
    UpdateFolded,
    UpdateRefused,
    WorkDispatched,
)
from fednano.core.progress import Silent
from fednano.core.tensors import State
from fednano.data.ledger import Grant, Span
from fednano.data.loader import STREAM, Batch, LeaseLoader, Packing, PartedLoader, TextSource
from fednano.data.packing import BestFit
from fednano.data.prefetch import Ahead
from fednano.energy.accounting import Usage
from fednano.experiment.experiment import Experiment
from fednano.federation.planner import Aware
from fednano.federation.round_length import Rounds
from fednano.report.audit import audit
from fednano.report.figures import figures_of
from fednano.report.history import History
from fednano.report.measured import measure
from fednano.runtime.beginning import first_ledger, local_trainer, untrained
from fednano.runtime.parts import Parts
from fednano.strategy.synchronous import Synchronous
from fednano.training.local import AfterStep, MayStep, StepPlan, StepsDone
from fednano.training.overlap import Advance
from fednano.training.worker import ClientWorker, Task
from fednano.volatility.availability import Availability, Window
from fednano.volatility.membership import Membership
from fednano.volatility.speed import Speed

ALWAYS = [Window(0, math.inf, "drain")]
H = 10


def played(
    *windows: Sequence[Window],
    overlap: int,
    transfer_s: float = 2.0,
    rounds: int = 3,
    speeds: dict[str, Speed] | None = None,
    elastic: bool = False,
    **settings: Any,
) -> Play:
    membership = Membership({f"c{i}": Availability(iter(w)) for i, w in enumerate(windows)}, speeds)
    length = Rounds(elastic=elastic, overlap=overlap)
    play = Play(membership=membership, rounds=rounds, local_steps=H, transfer_s=transfer_s, length=length, **settings)
    federation = play.run()
    checked = audit(play.events)
    assert checked.violations == []
    assert federation.ledger.counts()["done"] == checked.rows_done
    return play


def merged(play: Play) -> list[float]:
    return [e.t for e in play.of(RoundMerged)]


def unused(play: Play) -> list[tuple[float, str, int]]:
    return [(e.t, e.client, e.round) for e in play.of(LeaseReleased) if e.reason == "unused"]


# On a virtual clock


@pytest.mark.parametrize(
    ("overlap", "ends"), [(0, [14, 28, 42]), (2, [14, 26, 38]), (4, [14, 24, 34]), (10, [14, 24, 34])]
)
def test_rounds_are_shorter_by_the_steps_that_transfers_hide(overlap: int, ends: list[float]) -> None:
    """Four seconds pass from the submission to the next task; in the last round no step can overlap a next one."""
    play = played(ALWAYS, overlap=overlap)
    assert merged(play) == ends
    assert [e.steps for e in play.of(UpdateFolded)] == [H] * 3
    assert [e.round for e in play.of(LeaseGranted) if e.ahead] == ([1, 2] if overlap else [])


def test_a_step_under_way_is_finished_before_the_task_is_taken_up() -> None:
    """Submitted at 12.25 s; the task comes at 16.75 s, in the middle of the fifth overlapped step."""
    play = played(ALWAYS, overlap=10, transfer_s=2.25, rounds=2)
    first, second = play.of(UpdateFolded)
    assert (first.ahead, first.busy_from, first.busy_until) == ((), 2.25, 12.25)
    assert (second.ahead, second.busy_from, second.busy_until) == ((12.25, 17.25), 17.25, 22.25)
    assert (second.t, second.steps, second.trained_s) == (24.5, H, H)
    assert (second.row, second.token) == (11 + H, 0), "a lease has a row more than the steps that take one each"


def test_who_waits_for_slower_clients_goes_on_meanwhile() -> None:
    """c0 submits at 10 s, c1 at 20 s, and transfers take no time: c0 takes all allowed overlapped steps, c1 none."""
    play = played(ALWAYS, ALWAYS, overlap=6, transfer_s=0.0, rounds=2, step_s=(1.0, 2.0))
    assert merged(play) == [20, 40]
    ahead = {e.client: (e.ahead, e.busy_from) for e in play.of(UpdateFolded) if e.round == 1}
    assert ahead == {"c0": ((10, 16), 20), "c1": ((), 20)}


def test_steps_ahead_go_at_the_speed_of_their_time() -> None:
    """At half speed from 13 s on: a step of 1 s and two of 2 s begin in the four seconds of the transfers."""
    slow = Speed(iter([(13.0, 1.0), (math.inf, 0.5)]))
    play = played(ALWAYS, overlap=10, rounds=2, speeds={"c0": slow})
    assert play.of(UpdateFolded)[1].ahead == (12, 17)
    assert play.of(UpdateFolded)[1].busy_until == 17 + 7 * 2


def test_without_a_gap_nothing_changes() -> None:
    def shown(play: Play) -> list[tuple[Any, ...]]:
        kinds = (WorkDispatched, UpdateFolded, RoundMerged)
        told = [e for e in play.events if isinstance(e, kinds)]
        return [(type(e), e.t, e.steps, getattr(e, "client", None), getattr(e, "row", None)) for e in told]

    plain, overlapped = (played(ALWAYS, overlap=overlap, transfer_s=0.0) for overlap in (0, H))
    assert [e.ahead for e in overlapped.of(UpdateFolded)] == [()] * 3
    assert [e[:4] for e in shown(overlapped)] == [e[:4] for e in shown(plain)]


# Who does not go on


def test_who_is_gone_in_the_next_round_loses_the_steps_ahead() -> None:
    """c1 submits at 10.5 s and leaves at 13 s, while c0 keeps training until 15.5 s."""
    gone = [Window(0, 13, "crash"), Window(30, math.inf, "drain")]
    play = played(ALWAYS, gone, overlap=5, transfer_s=0.5, step_s=(1.5, 1.0))
    assert unused(play)[0] == (13, "c1", 1)


def test_who_drains_has_nothing_to_go_on_with() -> None:
    play = played(ALWAYS, [Window(0, 9.5, "drain")], overlap=5, rounds=2)
    assert unused(play) == [(9, "c1", 1)]
    assert [e.ahead for e in play.of(UpdateFolded) if e.client == "c1"] == [()]


def test_who_is_late_has_nothing_to_go_on_with() -> None:
    play = played(ALWAYS, ALWAYS, overlap=5, rounds=2, slack=1.0, grid=hostile(["late"], 9.0))
    assert [(e.t, e.client, e.round, e.reason) for e in play.of(LeaseReleased)] == [
        (14, "c0", 0, "expired"),
        (14, "c0", 1, "unused"),
    ]
    ahead = {(e.client, e.round): bool(e.ahead) for e in play.of(UpdateFolded)}
    assert ahead == {("c1", 0): False, ("c1", 1): True, ("c0", 1): False}


def test_a_reply_that_comes_twice_takes_nothing_away() -> None:
    play = played(ALWAYS, ALWAYS, overlap=5, rounds=2, grid=hostile(["twice"], 0.0))
    assert [e.reason for e in play.of(UpdateRefused)] == ["duplicate"]
    assert [bool(e.ahead) for e in play.of(UpdateFolded)] == [False, False, True, True]


def test_who_crashes_in_a_round_loses_both_leases() -> None:
    play = played(ALWAYS, [Window(0, 5, "crash")], overlap=5, rounds=2)
    assert [(e.reason, e.round) for e in play.of(LeaseReleased)] == [("unused", 1), ("crash", 0)]


def test_a_machine_that_dies_in_a_step_ahead_dies_with_the_task() -> None:
    """The fifth overlapped step, from 16.25 s on, would end at 17.25 s; the task came at 16.75 s."""
    play = played(ALWAYS, [Window(0, 17, "crash")], overlap=10, transfer_s=2.25, rounds=2)
    assert [(e.t, e.client, e.round, e.reason) for e in play.of(LeaseReleased)] == [(17, "c1", 1, "crash")]


def test_a_skipped_round_leaves_its_steps_ahead_to_the_next() -> None:
    play = played(ALWAYS, [Window(20, math.inf, "drain")], overlap=4, rounds=2, quorum=2)
    assert [e.t for e in play.of(RoundSkipped)] == [14]
    assert unused(play) == []
    (second,) = (e for e in play.of(UpdateFolded) if e.client == "c0" and e.round == 1)
    assert second.ahead == (12, 16)


def test_who_trains_alone_does_not_go_ahead() -> None:
    """c1 leaves after round 0; c0 has rows for round 1, which it trains in single-client mode on other rows."""
    play = played(ALWAYS, [Window(0, 14, "drain"), Window(200, math.inf, "drain")], overlap=4, rounds=2, elastic=True)
    assert unused(play) == [(14, "c1", 1), (14, "c0", 1)]
    assert [(e.round, e.client) for e in play.of(LeaseGranted) if e.ahead] == [(1, "c0"), (1, "c1")]


def test_who_has_no_time_left_is_not_waited_for() -> None:
    """Between the end of round 0 at 14 s and that of its window no step fits between two transfers."""
    play = played(ALWAYS, [Window(0, 18.5, "drain")], overlap=4, rounds=2, planner=Aware())
    assert unused(play) == [(14, "c1", 1)]


def test_what_a_planner_thinks_is_left_comes_on_top_of_the_steps_ahead() -> None:
    """Of the window until 22 s, 4 s are left for steps at 14 s, when four are done."""
    play = played([Window(0, 22, "drain"), Window(90, math.inf, "drain")], overlap=5, rounds=2, planner=Aware())
    assert [e.steps for e in play.of(WorkDispatched)] == [H, 9]
    last = play.of(UpdateFolded)[-1]
    assert (last.steps, last.ahead, last.busy_until) == (8, (12, 16), 20)


# Accounting


def used(play: Play, until: int | None = None) -> list[list[float]]:
    """When c0 computed, as in energy accounting, after a number of events."""
    usage = Usage()
    first = next(e for e in volatile_run(1) if isinstance(e, RunStarted))
    for event in [structs.replace(first, clients=play.membership.clients), *play.events][:until]:
        usage.add(event)
    return usage.busy("c0").tolist()


def test_steps_ahead_count_as_computing_and_the_wait_does_not() -> None:
    play = played(ALWAYS, overlap=2, rounds=2)
    assert used(play) == [[2, 14], [16, 24]]
    assert figures_of(play.events).clients["c0"].busy_s == 2 * H
    assert goodput(play)["goodput"] == pytest.approx(2 * H / 26)
    history = History()
    for event in play.events:
        history.add(event)
    drawn = sorted((span.start, span.stop, span.kind) for span in history.lanes["c0"].bars)
    assert drawn == [(2, 12, "full"), (12, 14, "full"), (16, 24, "full")]
    assert measure(play.events).step_s == {"c0": 1.0}


def test_lost_steps_ahead_count_as_computing() -> None:
    """It submits at 10.5 s and may take three more steps; it leaves at 12 s, or a slower client is awaited."""
    for gone_s, until in ((12.0, 12.0), (15.0, 13.5)):
        gone = [Window(0, gone_s, "crash"), Window(40, math.inf, "drain")]
        play = played(gone, ALWAYS, overlap=3, transfer_s=0.5, step_s=(1.0, 1.5), rounds=2)
        assert used(play)[0] == [0.5, until]


def test_a_lease_lost_in_its_round_counts_with_its_steps_ahead() -> None:
    gone = [Window(0, 18, "crash"), Window(40, math.inf, "drain")]
    play = played(gone, ALWAYS, overlap=2, rounds=2)
    assert used(play) == [[2, 18]], "the task went out at 14 s, when the two steps ahead were over"


# A client's work


@dataclass
class Halving:
    """Each step halves the weight; the requested steps are recorded."""

    plans: list[StepPlan] = field(default_factory=list)
    forgot: int = 0

    def forget(self, client: str) -> None:
        self.forgot += 1

    def run(
        self,
        client: str,
        weights: State,
        batches: Iterable[Batch],
        plan: StepPlan,
        clock: Clock,
        may_step: MayStep,
        after_step: AfterStep,
    ) -> tuple[StepsDone, State]:
        self.plans.append(plan)
        taken: list[Batch] = []
        for batch in islice(batches, plan.steps):
            if not may_step(plan.step_s):
                break
            clock.charge(plan.step_s)
            taken.append(batch)
            after_step(len(taken), 1.0 + len(self.plans))
        cursor = taken[-1].cursor if taken else None
        done = StepsDone(
            steps=len(taken),
            tokens=4 * len(taken),
            loss=float(len(self.plans)),
            cursor=cursor,
            drained=False,
            train_s=0.5,
        )
        return done, {"w": weights["w"] * 0.5 ** len(taken)}


# Rows of five tokens: a step of 4 takes one of them less its last.
ROWS = TextSource(list, lambda rows: (np.repeat(np.array(rows), 4), np.arange(len(rows) + 1) * 4), bos=-7)


@dataclass
class Client:
    trainer: Any = field(default_factory=Halving)
    clock: VirtualClock = field(default_factory=VirtualClock)
    told: list[tuple[int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        tell = lambda step: self.told.append((step.round, step.step, step.steps))  # noqa: E731
        always = lambda *_: True  # noqa: E731
        self.worker = ClientWorker(
            client="a",
            trainer=self.trainer,
            source=ROWS,
            pools=[range(999)],
            shape=(1, 4),
            packing=STREAM,
            tokens_per_s=4.0,
            clock=self.clock,
            may_step=always,
            on_step=tell,
            might_step=always,
        )

    def work(self, task: Task, w: float) -> tuple[Any, float]:
        result, delta = self.worker.work(task, {"w": torch.tensor([w])})
        return result, delta["w"].item()


FIRST = Task(
    client="a",
    round=0,
    version=0,
    lease=1,
    grant=Grant(0, (Span(0, 0, 9),)),
    steps=2,
    tokens_total=100,
    peers=3,
    horizon=10**6,
    ahead=Advance(2, "t", Grant(0, (Span(9, 0, 30),)), 3),
)
SECOND = structs.replace(
    FIRST, round=1, version=1, lease=2, token="t", grant=Grant(0, (Span(9, 0, 30),)), tokens_total=140
)


def test_a_client_goes_on_from_where_it_is_and_hands_that_in_once() -> None:
    """16 → 4 is submitted; an overlapped step makes 2; from the new weights, 10, it continues at 8 and ends at 4."""
    client = Client()
    result, delta = client.work(FIRST, 16.0)
    assert (delta, result.done.steps, result.ahead) == (12.0, 2, ())
    client.clock.wait(2.5)
    result, delta = client.work(structs.replace(SECOND, ahead=None), 10.0)
    assert delta == 6.0
    assert (result.ahead, result.busy_from, result.busy_until) == ((2.0, 3.0), 3.0, 4.0)
    done = result.done
    # One step of loss 2 and one of loss 3, of half a second each, on rows that are read but once.
    assert (done.steps, done.tokens, done.loss, done.cursor, done.train_s) == (2, 8, 2.5, (10, 3), 1.0)
    assert client.told == [(0, 1, 2), (0, 2, 2), (1, 1, 2), (1, 2, 2)]
    assert client.worker.onward is None
    first, ahead, rest = client.trainer.plans
    # Three peers take steps of 4 tokens; round 0 was expected to merge 24 of the 40 that it did.
    assert [p.tokens_before for p in (first, ahead, rest)] == [100, 100 + 2 * 12, 140 + 12]
    assert [p.steps for p in (first, ahead, rest)] == [2, 3, 1]


def test_steps_ahead_may_be_all_that_a_task_asks_for() -> None:
    client = Client()
    client.work(FIRST, 16.0)
    client.clock.wait(20.0)
    result, delta = client.work(structs.replace(SECOND, steps=3), 10.0)
    assert (result.done.steps, result.done.cursor, result.done.loss) == (3, (11, 2), 2.0)
    assert delta == 10.0 - (10.0 + 0.5 - 4.0)
    assert (result.ahead, result.busy_from, result.busy_until) == ((2.0, 5.0), 20.0, 20.0)


@pytest.mark.parametrize(("other", "forgot"), [({"lease": 3}, 1), ({"token": "u"}, 1), ({}, 0)])
def test_steps_ahead_on_another_lease_are_forgotten(other: dict[str, Any], forgot: int) -> None:
    client = Client()
    client.work(FIRST, 16.0)
    client.clock.wait(2.5)
    result, _ = client.work(structs.replace(SECOND, **other), 10.0)
    assert client.trainer.forgot == forgot
    assert bool(result.ahead) != bool(forgot)
    assert result.done.cursor == (10, 3), "from the lease's beginning"


def test_a_client_that_has_taken_no_step_ahead_forgets_nothing() -> None:
    client = Client()
    client.work(FIRST, 16.0)
    client.work(structs.replace(SECOND, lease=3), 10.0)
    assert client.trainer.forgot == 0


def test_a_machine_that_dies_takes_its_steps_ahead_with_it() -> None:
    client = Client()
    client.work(FIRST, 16.0)
    client.worker.crashed()
    client.clock.wait(2.5)
    assert client.work(SECOND, 10.0)[0].ahead == ()


@given(
    packing=st.one_of(st.just(STREAM), st.integers(1, 9).map(BestFit)),
    parts=st.lists(st.integers(0, 4), min_size=1, max_size=4),
)
def test_batches_in_parts_are_the_batches(packing: Packing, parts: list[int]) -> None:
    """However many a thread has made before their part was over."""
    lengths = [3 + 7 * i % 11 for i in range(40)]
    source = TextSource(
        list,
        lambda rows: (
            np.concatenate([np.full(lengths[r], r) for r in rows]),
            np.concatenate(([0], np.cumsum([lengths[r] for r in rows]))),
        ),
        bos=-7,
    )
    arguments = (source, range(40), Grant(0, (Span(0, 2, 9), Span(12, 0, 40))), 2, 5, packing)
    whole = list(LeaseLoader(*arguments))
    loader, found = PartedLoader(*arguments), []
    for steps in [*parts, len(whole)]:
        with Ahead(loader) as source_:
            for batch in islice(source_, steps):
                found.append(batch)
                loader.trained(len(found))
    assert [b.cursor for b in found] == [b.cursor for b in whole]
    for one, other in zip(found, whole, strict=True):
        assert one.left == other.left
        assert one.tokens.tolist() == other.tokens.tolist()


# Real training


@pytest.fixture
def parts(tiny: list[str]) -> Parts:
    experiment = Experiment(compose_config(tiny))
    return experiment.parts(experiment.prepare(Silent()), MemoryStore())


@pytest.mark.parametrize("packing", [STREAM, BestFit(8)])
def test_without_a_gap_the_weights_are_the_same_bits(parts: Parts, packing: Packing) -> None:
    ledger, rows = first_ledger(parts), parts.rows_for(0, 4 * parts.tokens_per_step) + 8
    grants = [ledger.lease(lease, 0, rows) for lease in range(2)]
    weights = untrained(parts)

    def worked(ahead: Advance | None, gap_s: float) -> tuple[Any, State]:
        clock = VirtualClock()
        always = lambda *_: True  # noqa: E731
        trainer = local_trainer(parts, parts.tokens_per_step)
        worker = ClientWorker(
            client="a",
            trainer=trainer,
            source=parts.source,
            pools=parts.pools.rows,
            shape=parts.shape,
            packing=packing,
            tokens_per_s=32.0,
            clock=clock,
            may_step=always,
            on_step=lambda *_: None,
            might_step=always,
        )
        worker.work(
            Task(
                client="a",
                round=0,
                version=0,
                lease=0,
                grant=grants[0],
                steps=4,
                tokens_total=0,
                peers=1,
                horizon=1000,
                ahead=ahead,
            ),
            weights,
        )
        clock.wait(clock.now() + gap_s)
        return worker.work(
            Task(
                client="a",
                round=1,
                version=1,
                lease=1,
                grant=grants[1],
                steps=4,
                tokens_total=128,
                peers=1,
                horizon=1000,
            ),
            weights,
        )

    advance = Advance(1, "", grants[1], 3)
    (plain, expected), (same, found), (ahead, moved) = worked(None, 0.0), worked(advance, 0.0), worked(advance, 1.5)
    assert [r.done.steps for r in (plain, same, ahead)] == [4, 4, 4]
    assert (same.done.cursor, same.done.left, same.done.loss) == (plain.done.cursor, plain.done.left, plain.done.loss)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not all(torch.equal(moved[name], expected[name]) for name in expected)
    assert (len(ahead.ahead), ahead.done.cursor, ahead.done.left) == (2, plain.done.cursor, plain.done.left)


SLOW_LINKS = ("network.latency_s=1.25", "clients=3", "rounds=8", "checkpoint_every=3")
CHURN = (*SLOW_LINKS, "round.overlap=3", "volatility.crash_share=0.5", "volatility.mean_up_s=20")


def event_log(summary: dict[str, Any]) -> list[Event]:
    return list(read_log(summary["folder"] / "events.jsonl"))


def test_a_run_overlaps_but_not_over_its_checkpoints(run: Callable[..., Any]) -> None:
    always = (*SLOW_LINKS, "volatility.mean_up_s=1e9", "arch.mlp_ratio=4")  # updates take seconds
    plain = run(*always, folder="plain")
    overlapped = run(*always, "round.overlap=3", folder="overlapped")
    events = event_log(overlapped)
    assert audit(events).violations == []
    assert {e.round for e in events if isinstance(e, UpdateFolded) and e.ahead} == {1, 2, 4, 5, 7}
    assert not any(e.ahead for e in events if isinstance(e, LeaseGranted) and e.round in (3, 6))
    # Five of eight rounds hide three steps of a second.
    assert overlapped["virtual_s"] == pytest.approx(plain["virtual_s"] - 5 * 3)
    assert overlapped["tokens"] == plain["tokens"]
    assert overlapped["val_bpb"] == pytest.approx(plain["val_bpb"], rel=0.05)


@pytest.mark.slow
def test_an_overlapped_run_stopped_anywhere_ends_the_same(run: Callable[..., Any]) -> None:
    whole = run(*CHURN, folder="whole")
    events = event_log(whole)
    assert any(e.ahead for e in events if isinstance(e, UpdateFolded))
    assert any(e.reason == "unused" for e in events if isinstance(e, LeaseReleased))
    for checks in (10, 31, 52):
        folder = f"after_{checks}"
        assert run(*CHURN, store=StopsAfter(checks), folder=folder)["status"] == "interrupted"
        assert_same(run(*CHURN, folder=folder, resume=True), whole)


def test_workers_give_the_same_bits(run: Callable[..., Any]) -> None:
    assert_same(run(*CHURN, "hardware.workers=2", folder="two"), run(*CHURN, folder="one"))


# Where it makes no sense


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["round.overlap=-1"], "round.overlap must be >= 0 steps, got -1; use 0 or more"),
        (["round=seconds", "round.overlap=1"], "round.overlap must be 0 under round.until=seconds, got 1"),
        (["round.elastic=true", "round.overlap=1"], "use round.alone_merge=outer or round.overlap=0"),
        (["round.overlap=5"], "round.overlap must be <= strategy.local_steps=4, got 5; lower it"),
        (["round.overlap=1", "optim.state=average"], "optim.state must be keep with round.overlap=1, got average; "),
        (["round.overlap=1", "checkpoint_every=1"], "checkpoint_every must be >= 2 with round.overlap=1, got 1; "),
        (
            ["round.overlap=1", "runtime=centralized"],
            "must be 0 with runtime=centralized, .*, got 1; use 0",
        ),
    ],
)
def test_choices_that_do_not_go_together(run: Callable[..., Any], overrides: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        run(*overrides)
    assert "\n" not in str(error.value)


def test_the_simulation_keeps_no_client(steady: list[str]) -> None:
    experiment = Experiment(compose_config([*steady, "runtime=simulation", "round.overlap=1"]))
    with pytest.raises(ValueError, match=r"round\.overlap must be 0 with runtime=simulation, .*, got 1; use 0 or"):
        experiment.parts(experiment.prepare(Silent()), MemoryStore())


def test_a_strategy_may_not_allow_it(tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Synchronous, "overlaps", False)
    with pytest.raises(ValueError, match=r"round\.overlap must be 0 with strategy=diloco, got 2; use 0"):
        Experiment(compose_config([*tiny, "round.overlap=2"]))
