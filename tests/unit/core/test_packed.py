"""Packed records read like a list of them, in a few bytes each."""

import math
import sys

import pytest

from fednano.core.packed import Packed


def pairs(*rows: tuple[float, float]) -> Packed[tuple[float, ...]]:
    return Packed(lambda *numbers: numbers, "dq", rows)


def test_records_come_back_as_they_went_in() -> None:
    held = pairs((0.1, 1), (math.inf, -2), (3.0, 1 << 62))
    assert list(held) == [(0.1, 1), (math.inf, -2), (3.0, 1 << 62)]
    assert (len(held), held[-1], held[1:]) == (3, (3.0, 1 << 62), [(math.inf, -2), (3.0, 1 << 62)])
    assert held == list(held)
    assert pairs((math.nan, 1)) == pairs((math.nan, 1))
    assert pairs((math.nan, 1)) != pairs((math.nan, 2))


def test_a_number_that_does_not_fit_leaves_nothing_behind() -> None:
    held = pairs((1.0, 1))
    with pytest.raises(ValueError, match=r"numbers must fit their columns, got \(2.0, 9223372036854775808\)"):
        held.add(2.0, 1 << 63)
    assert list(held) == [(1.0, 1)]


def test_a_record_takes_the_bytes_of_its_numbers() -> None:
    held = pairs(*((float(k), k) for k in range(10_000)))
    assert sum(map(sys.getsizeof, held.columns)) < 1.1 * 16 * 10_000 + 1000
