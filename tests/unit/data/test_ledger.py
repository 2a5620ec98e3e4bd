"""The ledger: no row is lost, none is given out or trained twice, whatever happens to the leases."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fednano.data.ledger import Ledger, Span


def test_leases_follow_each_other() -> None:
    ledger = Ledger([10])
    assert ledger.lease(0, 0, 4).spans == (Span(0, 0, 4),)
    assert ledger.lease(1, 0, 3).spans == (Span(4, 0, 7),)
    assert ledger.counts() == {"total": 10, "done": 0, "leased": 7, "free": 3, "partly": 0, "lost": 0, "doubled": 0}


def test_a_partly_trained_row_goes_on_at_its_token() -> None:
    ledger = Ledger([10])
    ledger.lease(0, 0, 4)
    ledger.settle(0, 2, 17)
    assert ledger.counts() == {"total": 10, "done": 2, "leased": 0, "free": 8, "partly": 1, "lost": 0, "doubled": 0}
    assert ledger.lease(1, 0, 3).spans == (Span(2, 17, 4), Span(4, 0, 5))
    ledger.settle(1, 5, 0)
    assert ledger.counts()["done"] == 5


def test_released_rows_come_first() -> None:
    ledger = Ledger([10])
    ledger.lease(0, 0, 3)
    ledger.lease(1, 0, 3)
    ledger.release(0)
    assert ledger.lease(2, 0, 5).spans == (Span(0, 0, 3), Span(6, 0, 8))


def test_epochs_follow_each_other() -> None:
    ledger = Ledger([3])
    ledger.lease(0, 0, 5)
    ledger.settle(0, 5, 0)
    assert ledger.counts() == {"total": 6, "done": 5, "leased": 0, "free": 1, "partly": 0, "lost": 0, "doubled": 0}


def test_a_cursor_outside_the_lease_changes_nothing() -> None:
    ledger = Ledger([10])
    ledger.lease(0, 0, 3)
    before = ledger.counts()
    with pytest.raises(ValueError, match="outside the lease"):
        ledger.settle(0, 3, 1)
    assert ledger.counts() == before
    with pytest.raises(KeyError):
        ledger.release(7)


def test_what_was_passed_over_is_free_again() -> None:
    ledger = Ledger([10])
    ledger.lease(0, 0, 2)
    ledger.settle(0, 1, 5)
    assert ledger.lease(1, 0, 8).spans == (Span(1, 5, 2), Span(2, 0, 9))
    ledger.settle(1, 7, 0, [Span(1, 5, 3), Span(4, 2, 5), Span(6, 0, 7)])
    assert ledger.counts() == {
        "total": 10,
        "done": 1 + 1 + 1,
        "leased": 0,
        "free": 7,
        "partly": 2,
        "lost": 0,
        "doubled": 0,
    }
    assert ledger.lease(2, 0, 7).spans == (Span(1, 5, 3), Span(4, 2, 5), Span(6, 0, 9), Span(9, 0, 10))


@pytest.mark.parametrize(
    "left",
    [
        [Span(0, 0, 1)],  # before the lease
        [Span(1, 4, 2)],  # before its first token
        [Span(6, 0, 7)],  # behind the cursor
        [Span(4, 0, 7)],  # across the cursor
        [Span(3, -1, 4)],
        [Span(3, 0, 3)],
        [Span(4, 0, 5), Span(3, 0, 4)],  # not in order
        [Span(3, 0, 5), Span(4, 5, 5)],
        [Span(3, 0, 5), Span(4, 5, 6)],  # twice
        [Span(3, 0, 4), Span(3, 0, 4)],
    ],
)
def test_what_was_not_passed_over_is_refused_and_changes_nothing(left: list[Span]) -> None:
    ledger = Ledger([10])
    ledger.lease(0, 0, 2)
    ledger.settle(0, 1, 5)
    ledger.lease(1, 0, 8)
    before = ledger.to_record(), ledger.counts()
    for refused in (ledger.trained, ledger.settle):
        with pytest.raises(ValueError, match="left must hold ascending parts of the lease's rows"):
            refused(1, 6, 0, left)
    assert (ledger.to_record(), ledger.counts()) == before
    ledger.settle(1, 6, 0, [Span(3, 0, 4)])


def test_a_cursor_in_the_middle_of_no_token_is_refused() -> None:
    ledger = Ledger([10])
    ledger.lease(0, 0, 3)
    with pytest.raises(ValueError, match="outside the lease"):
        ledger.trained(0, 1, -1)


def test_training_twice_is_counted() -> None:
    """The counter that should always read 0 can read something else."""
    ledger = Ledger([10])
    ledger.lease(0, 0, 4)
    ledger.settle(0, 4, 0)
    ledger._pools[0].finish((2, 0), (6, 0))
    assert ledger.counts()["doubled"] == 2 + 2  # trained twice, and done though never leased
    ledger._pools[0].free.append(Span(0, 0, 1))
    assert ledger.counts()["doubled"] == 2 + 3


def test_a_row_in_no_state_is_lost() -> None:
    ledger = Ledger([10])
    ledger.lease(0, 0, 4)
    ledger._leased.clear()
    assert ledger.counts()["lost"] == 4


class Reference:
    """Every token of every row on its own: the slow, obvious ledger. All rows have 10 tokens."""

    def __init__(self) -> None:
        self.trained: set[tuple[int, int, int]] = set()

    def train(self, pool: int, spans: tuple[Span, ...], row: int, token: int, left: tuple[Span, ...] = ()) -> None:
        passed = {(r, t) for s in left for r in range(s.row, s.stop) for t in range(s.token if r == s.row else 0, 10)}
        for span in spans:
            for r in range(span.row, span.stop):
                for t in range(span.token if r == span.row else 0, 10):
                    if (r, t) >= (row, token) and span.row <= row <= span.stop:
                        return
                    if (r, t) in passed:
                        continue
                    assert (pool, r, t) not in self.trained, "a token was trained twice"
                    self.trained.add((pool, r, t))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_random_churn_loses_and_doubles_nothing(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    ledger, reference = Ledger(sizes), Reference()
    held: dict[int, tuple[int, tuple[Span, ...]]] = {}
    for lease in range(data.draw(st.integers(1, 25))):
        pool = data.draw(st.integers(0, len(sizes) - 1))
        held[lease] = (pool, ledger.lease(lease, pool, data.draw(st.integers(1, 8))).spans)
        while held and data.draw(st.booleans()):
            ended = data.draw(st.sampled_from(sorted(held)))
            pool, spans = held.pop(ended)
            if data.draw(st.booleans()):
                ledger.release(ended)
                continue
            rows = [(r, s) for s in spans for r in range(s.row, s.stop)]
            row, span = data.draw(st.sampled_from(rows))
            token = data.draw(st.integers(span.token if row == span.row else 0, 9))
            left = tuple(
                Span(r, data.draw(st.integers(s.token if r == s.row else 0, 9)), r + 1)
                for r, s in rows
                if r < row and data.draw(st.booleans())
            )
            ledger.settle(ended, row, token, left)
            reference.train(pool, spans, row, token, left)
        if data.draw(st.booleans()):
            saved = json.loads(json.dumps(ledger.to_record()))
            assert Ledger.from_record(saved).counts()["lost"] == 0
    counts = ledger.counts()
    assert (counts["lost"], counts["doubled"]) == (0, 0)
    begun = {(p, r) for p, r, _ in reference.trained}
    whole = sum(all((p, r, t) in reference.trained for t in range(10)) for p, r in begun)
    assert counts["done"] == whole
    # What is left can all be leased and trained, and then nothing is missing.
    for ended in held:
        ledger.release(ended)
    for pool in range(len(sizes)):
        rows = ledger._pools[pool].frontier
        if rows:
            free = sum(s.rows for s in ledger._pools[pool].free)
            if free:
                spans = ledger.lease(1000 + pool, pool, free).spans
                ledger.settle(1000 + pool, spans[-1].stop, 0)
                reference.train(pool, spans, spans[-1].stop, 0)
            assert {(pool, r, t) for r in range(rows) for t in range(10)} <= reference.trained
    assert ledger.counts()["done"] == sum(pool.frontier for pool in ledger._pools)


def test_a_saved_ledger_frees_its_leases() -> None:
    ledger = Ledger([10])
    ledger.lease(0, 0, 4)
    ledger.settle(0, 2, 3)
    ledger.lease(1, 0, 6)
    restored = Ledger.from_record(json.loads(json.dumps(ledger.to_record())))
    assert restored.counts() == {"total": 10, "done": 2, "leased": 0, "free": 8, "partly": 1, "lost": 0, "doubled": 0}
    assert restored.lease(0, 0, 1).spans == (Span(2, 3, 3),)


def test_pools_must_hold_rows() -> None:
    with pytest.raises(ValueError, match="fewer clients or more data"):
        Ledger([4, 0])
