"""How often, and how soon, programs that die are started again."""

import pytest

from fednano.process.restarts import RestartPolicy, Restarts, Verdict

POLICY = RestartPolicy(first_s=1.0, longest_s=30.0, sound_s=60.0, refusals=frozenset({2}))


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def pauses(restarts: Restarts, time: Time, lives_s: list[float]) -> list[float]:
    """The pauses behind lives of so many seconds."""
    found = []
    for life_s in lives_s:
        time.now = restarts.due + life_s
        assert restarts.died(1) is Verdict.AGAIN
        assert restarts.due == time.now + restarts.pause_s
        found.append(restarts.pause_s)
    return found


def test_pauses_double_and_a_sound_life_begins_anew(time: Time) -> None:
    restarts = Restarts(POLICY, time)
    assert restarts.due == time.now, "the first start waits for nothing"
    assert pauses(restarts, time, [0.0] * 7) == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert pauses(restarts, time, [60.0, 60.1, 0.0]) == [30.0, 1.0, 2.0]


def test_a_program_may_die_as_often_as_it_likes(time: Time) -> None:
    assert pauses(Restarts(POLICY, time), time, [0.0] * 3000)[-1] == 30.0


def test_the_time_it_was_not_there_is_no_life(time: Time) -> None:
    restarts = Restarts(RestartPolicy(first_s=70.0, longest_s=100.0, sound_s=60.0), time)
    assert pauses(restarts, time, [0.0, 0.0]) == [70.0, 100.0]


def test_bad_input_is_refused_in_the_first_life_alone(time: Time) -> None:
    assert Restarts(POLICY, time).died(2) is Verdict.REFUSED
    restarts = Restarts(POLICY, time)
    assert [restarts.died(code) for code in (1, 2)] == [Verdict.AGAIN] * 2
    assert Restarts(RestartPolicy(), time).died(2) is Verdict.AGAIN


@pytest.mark.parametrize("limit", [0, 2])
def test_a_limit_counts_deaths_in_a_row(time: Time, limit: int) -> None:
    restarts = Restarts(RestartPolicy(limit=limit, sound_s=60.0), time)
    assert [restarts.died() for _ in range(limit + 1)] == [Verdict.AGAIN] * limit + [Verdict.TOO_OFTEN]
    time.now += 61.0
    assert restarts.died() is (Verdict.AGAIN if limit else Verdict.TOO_OFTEN)


def test_without_a_sound_life_the_limit_is_for_good(time: Time) -> None:
    restarts = Restarts(RestartPolicy(limit=1), time)
    assert pauses(restarts, time, [1e9]) == [0.0]
    time.now += 1e9
    assert restarts.died() is Verdict.TOO_OFTEN
