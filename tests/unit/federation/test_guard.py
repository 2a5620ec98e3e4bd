"""The guard's limits, and what happens to an update beyond them."""

import math

import pytest
import torch
from support.toy_federation import federate

from fednano.core.event_log import to_line
from fednano.core.events import UpdateFolded, UpdateRefused
from fednano.federation.guard import LEAST, NormGuard, Unguarded
from fednano.federation.plan import UNGUARDED
from fednano.volatility.availability import Window

ALWAYS = [Window(0, math.inf, "drain")]


def never() -> float:
    return 0.0  # the global model's norm does not matter


def test_before_there_is_a_median_the_model_is_the_measure():
    guard = NormGuard(multiple=10.0)
    assert guard.limit([(1.0, 5)] * (LEAST - 1), 5, lambda: 3.0) == 30.0
    assert guard.limit([(1.0, 5)] * LEAST, 5, never) == 10.0


def test_the_median_of_the_last_norms_counts():
    guard = NormGuard(multiple=2.0, window=9)
    old, last = [(1e9, 5)] * 50, [(float(i), 5) for i in range(1, 10)]
    assert guard.limit(old + last, 5, never) == 10.0


def test_one_update_moves_the_median_little():
    honest = [(1.0, 5)] * (LEAST - 1)
    for lie in (1e-30, 1e30):
        assert NormGuard(multiple=10.0).limit([*honest, (lie, 5)], 5, never) == 10.0


@pytest.mark.parametrize(("steps", "limit"), [(4, 40.0), (16, 160.0), (1, 20.0)])
def test_more_steps_make_a_longer_update(steps: int, limit: float):
    assert NormGuard(multiple=10.0).limit([(4.0, 4)] * LEAST, steps, never) == limit


def test_short_updates_pass_however_short_the_others_were():
    guard = NormGuard(multiple=10.0)
    assert guard.limit([(1e-30, 5)] * LEAST, 5, lambda: 100.0) == 1.0


def test_updates_of_length_0_say_nothing():
    """As with a learning rate that begins at 0."""

    def spoil(task, result, delta):
        return result, {name: tensor * (0.0 if task.round < 5 else 1.0) for name, tensor in delta.items()}

    played = federate([ALWAYS, ALWAYS], rounds=8, weight=1.0, guard=NormGuard(), spoil=spoil)
    assert not played.of(UpdateRefused)
    assert played.federation._progress.norms == ((10.0, 10, 0),) * 6


def test_a_fixed_bound_holds_beside_the_median():
    assert NormGuard(bound=3.0).limit([(4.0, 4)] * LEAST, 4, never) == 3.0
    assert NormGuard(bound=3.0, multiple=None).limit([], 4, never) == 3.0
    assert NormGuard(bound=300.0).limit([(4.0, 4)] * LEAST, 4, never) == 40.0


def test_an_optimizers_state_has_ten_times_as_much_room():
    guard = NormGuard(multiple=10.0)
    assert guard.state_limit([], lambda: 3.0) == 300.0
    assert guard.state_limit([2.0] * LEAST, never) == 200.0
    assert NormGuard(bound=1.0, multiple=None).state_limit([], never) == math.inf


def test_without_a_guard_there_is_no_limit():
    assert Unguarded().limit([(1.0, 1)] * 99, 1, never) == Unguarded().state_limit([1.0] * 99, never) == math.inf


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"bound": None, "multiple": None}, "guard.bound or guard.multiple"),
        ({"bound": 0.0}, "guard.bound"),
        ({"bound": math.nan}, "guard.bound"),
        ({"multiple": 1.0}, "guard.multiple"),
        ({"multiple": math.inf}, "guard.multiple"),
        ({"window": LEAST - 1}, "guard.window"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, key: str):
    with pytest.raises(ValueError, match=rf"^{key} must be .*; "):
        NormGuard(**settings)


def lies_once(factor: float, at: int):
    """The update of c1 in round `at` is `factor` times as long as its training made it."""

    def spoil(task, result, delta):
        lie = task.client == "c1" and task.round == at
        return result, {name: tensor * factor for name, tensor in delta.items()} if lie else delta

    return spoil


@pytest.mark.parametrize("at", [0, 5])
def test_an_update_a_million_times_too_long_is_refused(at: int):
    honest, lying = (
        federate([ALWAYS, ALWAYS], rounds=6, weight=50.0, guard=NormGuard(), spoil=lies_once(1.0, at)),
        federate([ALWAYS, ALWAYS], rounds=6, weight=50.0, guard=NormGuard(), spoil=lies_once(1e6, at)),
    )
    [refused] = lying.of(UpdateRefused)
    assert (refused.client, refused.round, refused.reason) == ("c1", at, "outlying")
    assert refused.cause == f"its norm is 1e+07, and the guard's limit {500 if at == 0 else 100}"
    # Both clients train alike, so that the mean without the lie is the honest mean.
    assert torch.equal(lying.federation.state.weights["w"], honest.federation.state.weights["w"])
    assert not honest.of(UpdateRefused)


def test_a_clipped_update_enters_at_the_limit():
    played = federate(
        [ALWAYS, ALWAYS],
        rounds=6,
        weight=50.0,
        guard=NormGuard(action="clip"),
        spoil=lies_once(1e6, 5),
    )
    clipped = [event for event in played.of(UpdateFolded) if event.clip is not None]
    assert [(event.client, event.round, event.norm) for event in clipped] == [("c1", 5, 100.0)]
    assert clipped[0].clip == pytest.approx(1e-5)
    # Five rounds of −10 each, then the mean of −10 and −100.
    assert float(played.federation.state.weights["w"]) == pytest.approx(50.0 - 5 * 10.0 - 55.0)


def test_an_unguarded_run_takes_anything_finite():
    played = federate([ALWAYS, ALWAYS], rounds=6, weight=50.0, spoil=lies_once(1e6, 5))
    assert not played.of(UpdateRefused)
    assert float(played.federation.state.weights["w"]) < -1e6


def test_what_the_guard_leaves_alone_looks_as_without_a_guard():
    guarded, plain = (
        federate([ALWAYS, ALWAYS], rounds=3, weight=50.0, guard=guard) for guard in (NormGuard(), UNGUARDED)
    )
    logs = [[to_line(event).partition(b',"wall_')[0] for event in played.events] for played in (guarded, plain)]
    assert logs[0] == logs[1]
    assert not any(b'"clip"' in line for line in logs[0])
