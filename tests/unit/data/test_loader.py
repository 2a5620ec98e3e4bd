"""Batches and cursors: stopping and going on gives the same tokens as never stopping."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.documents import BOS, source

from fednano.data.ledger import Grant, Ledger, Span
from fednano.data.loader import IGNORE, LeaseLoader


def stream(lengths: Sequence[int], rows: Sequence[int]) -> list[int]:
    return [token for r in rows for token in (BOS, *range(100 * r, 100 * r + lengths[r]))]


def test_batches_are_the_stream_cut_up() -> None:
    lengths = [3, 4, 2, 5, 6]
    loader = LeaseLoader(source(lengths), range(5), Grant(0, (Span(0, 0, 5),)), 2, 4)
    batches = list(loader)
    whole = stream(lengths, range(5))
    assert np.concatenate([b.tokens.ravel() for b in batches]).tolist() == whole[:24]
    assert np.concatenate([b.targets.ravel() for b in batches]).tolist() == whole[1:25]
    assert all(b.tokens.shape == (2, 4) for b in batches)
    assert [b.cursor for b in batches] == [(1, 4), (3, 4), (4, 6)]


def test_rows_repeat_by_epoch_and_follow_the_pool() -> None:
    lengths = [3, 3, 3, 3]
    loader = LeaseLoader(source(lengths), np.array([3, 1]), Grant(0, (Span(1, 0, 4),)), 1, 4)
    assert [b.tokens.ravel().tolist() for b in loader] == [[BOS, 100, 101, 102], [BOS, 300, 301, 302]]


def test_a_seam_predicts_nothing() -> None:
    lengths = [5, 5, 5, 5]
    grant = Grant(0, (Span(0, 4, 1), Span(2, 3, 4)))
    batch = next(iter(LeaseLoader(source(lengths), range(4), grant, 1, 4)))
    assert batch.tokens.ravel().tolist() == [3, 4, 202, 203]
    assert batch.targets.ravel().tolist() == [4, IGNORE, 203, 204]
    assert batch.cursor == (2, 5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(1, 3), st.integers(1, 9), st.randoms())
def test_stopping_and_going_on_trains_every_token_once(lengths: list[int], B: int, T: int, random) -> None:
    """Leases of random length, stopped after random batches, together train the stream's tokens once and in full."""
    ledger = Ledger([len(lengths)])
    trained: dict[tuple[int, int], int] = {}
    for lease in range(12):
        grant = ledger.lease(lease, 0, random.randint(1, 6))
        cursor = None
        for batch in LeaseLoader(source(lengths), range(len(lengths)), grant, B, T):
            start = cursor or (grant.spans[0].row, grant.spans[0].token)
            left = [p for p in _positions(grant, lengths) if p >= start]
            for position, token in zip(left, batch.tokens.ravel().tolist(), strict=False):
                assert position not in trained, "a token was trained twice"
                trained[position] = token
            cursor = batch.cursor
            if random.random() < 0.3:
                break
        if cursor is None:
            ledger.release(lease)
        else:
            ledger.settle(lease, *cursor)
    counts = ledger.counts()
    assert (counts["lost"], counts["doubled"]) == (0, 0)
    for (row, token), found in trained.items():
        document = [BOS, *range(100 * (row % len(lengths)), 100 * (row % len(lengths)) + lengths[row % len(lengths)])]
        assert found == document[token]
    whole = {row for row in range(200) if all((row, t) in trained for t in range(lengths[row % len(lengths)] + 1))}
    assert counts["done"] == len(whole)


def _positions(grant: Grant, lengths: list[int]) -> list[tuple[int, int]]:
    """Every (row, token) of the grant, in order."""
    return [
        (row, token)
        for span in grant.spans
        for row in range(span.row, span.stop)
        for token in range(span.token if row == span.row else 0, lengths[row % len(lengths)] + 1)
    ]
