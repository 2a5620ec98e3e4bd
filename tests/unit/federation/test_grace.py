"""The adaptive grace window of Decoupled DiLoCo, by hand."""

import pytest

from fednano.federation.fragments.grace import Averages
from fednano.federation.fragments.holdings import Holdings


def test_the_window_is_the_time_that_clients_have_to_spare() -> None:
    averages = Averages()
    assert averages.window(1.0, 10, 60.0) == 0.0, "there are no averages yet"
    averages.trained(2.0, 3.0)
    averages.reached(5.0)
    assert averages.window(1.0, 10, 60.0) == 10 * 2.0 - 5.0 - 3.0
    assert averages.window(0.5, 10, 60.0) == 6.0
    assert averages.window(1.0, 10, 4.0) == 4.0
    assert averages.window(1.0, 3, 60.0) == 0.0, "they have none"


def test_averages_follow_slowly() -> None:
    averages = Averages()
    for step_s in (1.0, 2.0):
        averages.trained(step_s, 0.0)
    assert averages.step_s == pytest.approx(0.9 * 1.0 + 0.1 * 2.0)


def test_averages_are_part_of_a_checkpoint() -> None:
    holdings = Holdings.of(2, {})
    holdings.averages.trained(1.5, 0.5)
    assert Holdings.of(2, holdings.record()) == holdings
