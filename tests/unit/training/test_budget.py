"""What ends a run beside its rounds, and what is too little for one."""

from itertools import islice
from typing import Any

import pytest

from fednano.core.clock import VirtualClock
from fednano.core.events import Event, RoundMerged, RoundSkipped
from fednano.federation.plan import Site
from fednano.federation.round_length import Rounds
from fednano.training import budget as module
from fednano.training.budget import Budget, BudgetReach
from fednano.training.recorder import Recorder, RunProgress, unsaved


def recorder(progress: RunProgress, clock_s: float = 0.0, wall_s: float = 0.0) -> Recorder:
    return Recorder(
        eval_every=1,
        checkpoint_every=1,
        evaluate=lambda _: (0.0, 0.0),
        mark=unsaved,
        emit=lambda _: None,
        clock=VirtualClock(clock_s),
        progress=progress,
        wall_s=lambda: wall_s,
    )


@pytest.mark.parametrize(
    ("budget", "tokens", "clock_s", "wall_s", "key"),
    [
        (Budget(), 10**15, 1e12, 1e12, None),
        (Budget(tokens=100), 99, 1e9, 1e9, None),
        (Budget(tokens=100), 100, 0.0, 0.0, "budget.tokens"),
        (Budget(virtual_hours=0.5), 10**9, 1799.9, 1e9, None),
        (Budget(virtual_hours=0.5), 0, 1800.0, 0.0, "budget.virtual_hours"),
        (Budget(wall_hours=2), 10**9, 1e9, 7199.9, None),
        (Budget(wall_hours=2), 0, 0.0, 7200.0, "budget.wall_hours"),
        (Budget(tokens=100, virtual_hours=1, wall_hours=1), 99, 0.0, 3600.0, "budget.wall_hours"),
    ],
)
def test_the_limit_that_is_reached_is_named(
    budget: Budget, tokens: int, clock_s: float, wall_s: float, key: str | None
) -> None:
    assert budget.used_up(tokens, clock_s, lambda: wall_s) == key
    progress = RunProgress(rounds=3, tokens=tokens)
    assert recorder(progress, clock_s, wall_s).ended(10, budget) == (key is not None)
    assert progress.ended_by == key


def test_wall_time_is_asked_for_only_where_it_is_limited() -> None:
    """The ranks of torchrun ask each other for it."""
    assert Budget(tokens=10, virtual_hours=1).used_up(5, 0.0, lambda: pytest.fail("was asked")) is None


def test_rounds_end_a_run_that_has_budget_left() -> None:
    progress = RunProgress(rounds=4, tokens=5)
    assert not recorder(progress).ended(5, Budget(tokens=100))
    assert recorder(progress).ended(4, Budget(tokens=100))
    assert progress.ended_by == "rounds"


def test_a_run_goes_on_until_something_ended_it() -> None:
    progress = RunProgress(rounds=2)
    done = []
    for index in progress.left(100):
        done.append(index)
        progress.rounds = index + 1
        progress.ended_by = "budget.tokens" if index == 4 else None
    assert done == [2, 3, 4]
    assert list(progress.left(100)) == [], "as after a resume behind the last round"


def test_a_checkpoint_behind_all_rounds_says_so_without_having_been_told() -> None:
    progress = RunProgress(rounds=5)
    assert list(islice(progress.left(5), 3)) == []
    assert progress.ended_by == "rounds"


@pytest.mark.parametrize("key", ["tokens", "virtual_hours", "wall_hours"])
@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_a_limit_is_a_number_above_0(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^budget\.{key} must be > 0 and finite, got {value}; .*null for no limit"):
        Budget(**{key: value})


def test_rounds_that_begin_within_the_virtual_hours() -> None:
    assert Budget(tokens=5).rounds_within(7, 60.0) == 7
    assert Budget(virtual_hours=1).rounds_within(None, 1000.0) == 4
    assert Budget(virtual_hours=1).rounds_within(3, 1000.0) == 3


def site(step_s: float) -> Site:
    return Site(node_id=1, pool=0, step_s=step_s, down_s=1.0, up_s=1.0)


@pytest.mark.parametrize(
    ("length", "quorum", "least"),
    [
        (Rounds(), 1, (40, 12.0)),  # one client's ten steps of four tokens; the fastest takes 10 s and two transfers
        (Rounds(), 2, (80, 22.0)),
        (Rounds(until="seconds", seconds=32.0), 1, (40, 32.0)),  # the slowest takes ten steps of 3 s
        (Rounds(until="tokens", tokens=100), 1, (100, 17.0)),  # 5, 14 and 7 steps; the slowest takes 15 s
    ],
)
def test_the_smallest_and_the_shortest_round(length: Rounds, quorum: int, least: tuple[int, float]) -> None:
    assert length.least([site(3.0), site(1.0), site(2.0)], quorum, 10, 4) == least


def test_less_than_a_round_is_refused() -> None:
    Budget(tokens=40, virtual_hours=0.01, wall_hours=1e-9).check(40, 36.0, real=False)
    with pytest.raises(ValueError, match=r"^budget\.tokens must be >= 40, the tokens of .*, got 39; use more"):
        Budget(tokens=39).check(40, 36.0, real=False)
    with pytest.raises(
        ValueError, match=r"^budget\.virtual_hours must be >= 0\.01, the hours of .*, got 0\.005; use more"
    ):
        Budget(virtual_hours=0.005).check(40, 36.0, real=False)
    with pytest.raises(
        ValueError, match=r"^budget\.wall_hours must be >= 0\.01, the hours of .*, got 0\.005; use more"
    ):
        Budget(wall_hours=0.005).check(40, 36.0, real=True)


def merged(t: float, total: int) -> Event:
    return RoundMerged(
        t=t, round=0, version=1, leases=(), steps=1, tokens=1, tokens_total=total, norm=0.0, train_loss=0.0,
        lr_scale=1.0, wall_s=0.0, wall_train_s=0.0,
    )  # fmt: skip


def skipped(t: float) -> Event:
    return RoundSkipped(t=t, round=0, updates=1, reason="below the quorum")


def test_rounds_that_merge_nothing_do_not_go_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 3)
    reach, bounded = BudgetReach(budget=Budget(tokens=100), bounded=False), BudgetReach(budget=Budget(), bounded=True)
    for event in (skipped(1.0), skipped(2.0), merged(3.0, 60), skipped(4.0), skipped(5.0)):
        reach.hear(event)
    with pytest.raises(ValueError, match=r"3 rounds in a row merge nothing; lower strategy\.quorum"):
        reach.hear(skipped(6.0))
    for _ in range(5):
        bounded.hear(skipped(1.0))


def test_what_a_trace_keeps_out_of_reach_is_named() -> None:
    cause = ValueError("the file ends; take a longer one")
    for budget, words in (
        (Budget(tokens=100), "budget.tokens must be in reach, got 100 (60 merged in 3,000 s of the run)"),
        (Budget(virtual_hours=2), "budget.virtual_hours must be in reach, got 2"),
    ):
        reach = BudgetReach(budget=budget, bounded=False)
        reach.hear(merged(3000.0, 60))
        assert str(reach.refusal(cause)) == f"{words}; lower it, or remove its cause: {cause}"
    assert BudgetReach(budget=Budget(wall_hours=1), bounded=True).refusal(cause) is cause
