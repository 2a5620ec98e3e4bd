"""The tally: what loaders make of rows is what the server counts, and a step more or less is not."""

from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.documents import source

from fednano.data.ledger import Grant, Ledger, Span, Stretch, least_tokens
from fednano.data.loader import STREAM, Batch, LeaseLoader, Packing
from fednano.data.packing import BestFit
from fednano.data.tally import Tally

rows_of = st.lists(st.integers(0, 30), min_size=1, max_size=40)
shapes = st.tuples(st.integers(1, 3), st.integers(2, 12))
packings = st.sampled_from([STREAM, BestFit(1), BestFit(5)])


def trained(grant: Grant, batch: Batch) -> list[Stretch]:
    ledger = Ledger([10**6])
    ledger._leased[0] = grant
    return ledger.trained(0, *batch.cursor, batch.left)


def lease(lengths: Sequence[int], first: int) -> Grant:
    """All rows, without the first tokens of the first one, in two epochs."""
    return Grant(0, (Span(0, min(first, lengths[0]), 2 * len(lengths)),))


@given(rows_of, shapes, packings, st.integers(0, 30))
def test_what_a_client_trains_is_what_the_server_counts(
    lengths: list[int], shape: tuple[int, int], packing: Packing, first: int
) -> None:
    grant = lease(lengths, first)
    tally = Tally(source(lengths), [range(len(lengths))], packing, shape)
    for steps, batch in enumerate(LeaseLoader(source(lengths), range(len(lengths)), grant, *shape, packing), start=1):
        stretches = trained(grant, batch)
        tally.check(0, stretches, steps)
        assert least_tokens(stretches) <= steps * shape[0] * shape[1]


@given(rows_of, shapes, st.integers(0, 30), st.sampled_from([-1, 1]))
def test_a_step_more_or_less_than_the_rows_hold_is_a_lie(
    lengths: list[int], shape: tuple[int, int], first: int, lie: int
) -> None:
    grant = lease(lengths, first)
    tally = Tally(source(lengths), [range(len(lengths))], STREAM, shape)
    batches = list(LeaseLoader(source(lengths), range(len(lengths)), grant, *shape))
    assume(batches)
    with pytest.raises(ValueError, match="but the rows up to the cursor hold"):
        tally.check(0, trained(grant, batches[-1]), len(batches) + lie)


def test_best_fit_bounds_the_rows_from_both_sides() -> None:
    lengths = [9] * 40  # ten tokens each
    tally = Tally(source(lengths), [range(40)], BestFit(4), (2, 10))
    tally.check(0, [((0, 0), (2, 0))], 1)
    for stretch in [((0, 0), (3, 0)), ((0, 0), (1, 7))]:
        with pytest.raises(ValueError, match="1 steps train 20 tokens, but the rows up to the cursor hold"):
            tally.check(0, [stretch], 1)


@pytest.mark.parametrize("stretches", [[((0, 0), (0, 11))], [((0, 11), (1, 10))], [((0, 0), (0, 10**15))]])
def test_a_position_behind_the_end_of_its_row_is_a_lie(stretches: list[Stretch]) -> None:
    with pytest.raises(ValueError, match=r"row 0 has 10 tokens, but one after them|hold more"):
        Tally(source([9, 9]), [range(2)], BestFit(4), (1, 100)).check(0, stretches, 1)


def test_a_lie_ends_the_count() -> None:
    asked: list[int] = []

    class Counting(Tally):
        def _held(self, rows, parts) -> int:  # type: ignore[no-untyped-def]
            asked.append(len(parts))
            return super()._held(rows, parts)

    with pytest.raises(ValueError, match="hold more"):
        Counting(source([9] * 10), [range(10)], STREAM, (1, 10)).check(0, [((0, 0), (10**9, 0))], 1)
    assert asked == [32]
