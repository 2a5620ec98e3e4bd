"""Clocks."""

import pytest

from fednano.core import clock as clock_module
from fednano.core.clock import RealClock, Stopwatch, Throttle, VirtualClock


def test_virtual_time_passes_only_when_charged_or_waited_for() -> None:
    clock = VirtualClock()
    clock.charge(2.5)
    clock.wait(4.0)
    clock.wait(3.0)
    assert clock.now() == 4.0
    with pytest.raises(ValueError, match="only goes forward"):
        clock.charge(-1)
    with pytest.raises(ValueError, match="only goes forward"):
        clock.charge(float("nan"))


def test_alarms_end_a_wait_once() -> None:
    clock = VirtualClock()
    for at in (5.0, 3.0, 3.0):
        clock.alarm(at)
    times = []
    for _ in range(3):
        clock.wait(10.0)
        times.append(clock.now())
    assert times == [3.0, 5.0, 10.0]


def test_a_real_clock_moves_by_itself() -> None:
    clock = RealClock(poll_s=0.001)
    before = clock.now()
    clock.charge(1000)
    clock.wait(before + 1000)
    assert 0 < clock.now() - before < 900


def test_stopwatch_sums_its_blocks() -> None:
    watch = Stopwatch()
    with watch:
        sum(range(1000))
    first = watch.lap()
    with watch:
        sum(range(1000))
    assert watch.seconds == first + watch.lap() > 0


@pytest.mark.parametrize(("took_s", "next_s"), [(0.01, 2.0), (1.0, 21.0)])
def test_what_is_throttled_takes_a_small_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch, took_s: float, next_s: float
) -> None:
    now = [100.0]
    monkeypatch.setattr(clock_module.time, "perf_counter", lambda: now[0])
    throttle = Throttle(2.0, rest=20.0)
    assert throttle.due()
    with throttle:
        now[0] += took_s
    now[0] = 100.0 + next_s - 0.001
    assert not throttle.due()
    now[0] = 100.0 + next_s
    assert throttle.due()
