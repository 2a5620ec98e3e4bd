"""Sampled signals: values, exact integrals and crossings, by hand and against dense sums."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fednano.traces.trace import Trace

STEP = Trace([0, 10, 20], [1, 4, 2])  # ends at 30
LINE = Trace([0, 10, 20], [1, 4, 2], "linear")


def test_values_by_hand() -> None:
    assert STEP.value([-5, 0, 9.9, 10, 25, 30, 99]).tolist() == [1, 1, 1, 4, 2, 2, 2]
    assert LINE.value([-5, 0, 5, 10, 15, 20, 25, 99]).tolist() == [1, 1, 2.5, 4, 3, 2, 2, 2]
    assert (STEP.start, STEP.end, Trace([3], [7]).end, Trace([0, 1], [0, 0], end=9).end) == (0, 30, 4, 9)
    assert STEP.value(3.0).shape == ()


def test_integrals_by_hand() -> None:
    assert STEP.integral(0, 30) == 10 + 40 + 20
    assert STEP.integral([5, -10, 25], [12, 0, 40]).tolist() == [5 + 8, 10, 30]
    assert STEP.integral(12, 5) == -13
    assert LINE.integral(0, 10) == 25
    assert LINE.integral(0, 5) == (1 + 2.5) / 2 * 5
    assert LINE.integral([10, 20], [30, 50]).tolist() == [30 + 20, 60]


def test_a_repeating_trace_goes_on() -> None:
    again = Trace([0, 10, 20], [1, 4, 2], repeat=True)
    assert again.value([30, 40, 59, -1, -30]).tolist() == [1, 4, 2, 2, 1]
    assert again.integral(0, 90) == 210
    assert again.integral(-10, 10) == 20 + 10
    assert again.integral(25, 35) == 10 + 5


def test_crossings_by_hand() -> None:
    assert STEP.crossings(3).tolist() == [10, 20]
    assert STEP.crossings(1).tolist() == [10]
    assert STEP.crossings(4).tolist() == []
    assert LINE.crossings(2.5).tolist() == [5, 17.5]
    assert LINE.crossings(2).tolist() == [pytest.approx(10 / 3), 20]
    assert Trace([0, 1, 2], [3, 1, 3], "linear").crossings(1).tolist() == [1, 1]


def test_the_clock_of_the_run() -> None:
    ours = STEP.on_run_clock(offset_s=5, speedup=2)
    t = np.linspace(-10, 40, 201)
    assert ours.value(t).tolist() == STEP.value(5 + 2 * t).tolist()
    assert ours.integral(0, 10) == pytest.approx(STEP.integral(5, 25) / 2)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    n = draw(st.integers(1, 8))
    steps = draw(st.lists(st.integers(1, 20), min_size=n, max_size=n))
    times = np.cumsum(steps).astype(float) - draw(st.integers(0, 30))
    values = draw(st.lists(st.integers(-9, 9), min_size=n, max_size=n))
    kind = draw(st.sampled_from(["step", "linear"]))
    return Trace(times, values, kind, float(times[-1]) + draw(st.integers(1, 9)), draw(st.booleans()))


@settings(max_examples=100, deadline=None)
@given(traces(), st.integers(-80, 80), st.integers(0, 90))
def test_integrals_are_dense_sums(trace: Trace, a: int, length: int) -> None:
    # Stamps are whole seconds, so that midpoints of small cells are exact for steps and lines alike.
    cells = a + (np.arange(length * 16) + 0.5) / 16
    assert trace.integral(a, a + length) == pytest.approx(trace.value(cells).sum() / 16, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(traces(), st.integers(-9, 9))
def test_crossings_are_where_the_side_changes(trace: Trace, half: int) -> None:
    threshold = half + 0.5
    crossings = trace.crossings(threshold)
    assert (np.diff(crossings) > 0).all()
    edges = np.concatenate(([trace.start], crossings, [trace.end]))
    middles = (edges[:-1] + edges[1:]) / 2
    sides = trace.value(middles) > threshold
    assert (sides[1:] != sides[:-1]).all()
    # Nothing changes between two crossings.
    for left, right, side in zip(edges[:-1], edges[1:], sides, strict=True):
        inside = np.linspace(left, right, 52)[1:-1]
        assert ((trace.value(inside) > threshold) == side).all()


@pytest.mark.parametrize(
    ("times", "values", "message"),
    [
        ([], [], "give n of each"),
        ([0, 1], [1], "give n of each"),
        ([0, 0], [1, 1], "must ascend"),
        ([1, 0], [1, 1], "must ascend"),
        ([0, 1], [1, float("nan")], "must be finite"),
    ],
)
def test_bad_traces_are_refused(times: list[float], values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Trace(times, values)


def test_stamps_lie_within_and_repeat() -> None:
    # Segments begin at 0, 10 and 40 of every 50 s.
    repeating = Trace([0.0, 10.0, 40.0], [1.0, 2.0, 3.0], end=50.0, repeat=True).on_run_clock(offset_s=20.0)
    assert repeating.stamps(0, 95).tolist() == [20, 30, 40, 70, 80, 90]
    assert Trace([0.0, 10.0, 40.0], [1.0, 2.0, 3.0], end=50.0).stamps(5, 200).tolist() == [10, 40, 50]
