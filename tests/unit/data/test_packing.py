"""Best-fit packing: rows begin with BOS, every token is trained once, and a stop changes nothing."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.documents import BOS, source

from fednano.data.ledger import Grant, Ledger, Span
from fednano.data.loader import IGNORE, Batch, LeaseLoader
from fednano.data.packing import BestFit

Lengths = list[int]
lengths_of = lambda most: st.lists(st.integers(0, 30), min_size=1, max_size=most)  # noqa: E731
shapes = st.tuples(st.integers(1, 3), st.integers(2, 12))


def loader(lengths: Sequence[int], grant: Grant, shape: tuple[int, int], documents: int) -> LeaseLoader:
    return LeaseLoader(source(lengths), range(len(lengths)), grant, *shape, BestFit(documents))


def whole(lengths: Sequence[int]) -> Grant:
    return Grant(0, (Span(0, 0, len(lengths)),))


def test_a_row_by_hand() -> None:
    # With their BOS: 4, 3, 8 and 2 tokens; rows of 6.
    (batch,) = loader([3, 2, 7, 1], whole([3, 2, 7, 1]), (2, 6), 3)
    assert batch.tokens.tolist() == [[BOS, 200, 201, 202, 203, 204], [BOS, 0, 1, 2, BOS, 300]]
    assert batch.targets.tolist() == [[200, 201, 202, 203, 204, 205], [0, 1, 2, BOS, 300, BOS]]
    # Of the three that were in the buffer, the rest of the cut document and the one not chosen remain.
    assert (batch.cursor, batch.left) == ((4, 0), (Span(1, 0, 2), Span(2, 6, 3)))


def test_what_is_cut_off_goes_on_behind_a_bos_that_predicts_nothing() -> None:
    batch = list(loader([9], whole([9]), (1, 5), 4))
    assert [b.tokens.tolist() for b in batch] == [[[BOS, 0, 1, 2, 3]], [[BOS, 4, 5, 6, 7]]]
    assert [b.targets.tolist() for b in batch] == [[[0, 1, 2, 3, 4]], [[IGNORE, 5, 6, 7, 8]]]
    assert [(b.cursor, b.left) for b in batch] == [((1, 0), (Span(0, 5, 1),)), ((1, 0), (Span(0, 9, 1),))]


def test_the_shortest_is_cut_where_none_fits() -> None:
    first = next(iter(loader([3, 5, 4], whole([3, 5, 4]), (1, 8), 3)))
    assert first.tokens.tolist() == [[BOS, 100, 101, 102, 103, 104, BOS, 0]]


def test_a_buffer_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"packing\.documents must be >= 1, got 0; use"):
        BestFit(0)


def slowly(lengths: Lengths, shape: tuple[int, int], documents: int) -> Iterator[list[list[int]]]:
    """The tokens of each batch, by the rule as it is written."""
    (B, T), waiting = shape, list(enumerate(lengths))
    buffer: list[tuple[int, list[int]]] = []

    def size(piece: tuple[int, list[int]]) -> int:
        return min(len(piece[1]), T)

    while True:
        rows: list[list[int]] = []
        for _ in range(B):
            row: list[int] = []
            while len(row) < T:
                while waiting and len(buffer) < documents:
                    r, length = waiting.pop(0)
                    buffer.append((r, [BOS, *range(100 * r, 100 * r + length)]))
                if not buffer:
                    return
                fitting = [piece for piece in buffer if size(piece) <= T - len(row)]
                wanted = max(map(size, fitting)) if fitting else min(map(size, buffer))
                chosen = min(piece for piece in buffer if size(piece) == wanted)
                buffer.remove(chosen)
                room = T - len(row)
                row += chosen[1][:room]
                if len(chosen[1]) > room:
                    buffer.append((chosen[0], [BOS, *chosen[1][room:]]))
            rows.append(row)
        yield rows


@settings(max_examples=200, deadline=None)
@given(lengths_of(20), shapes, st.integers(1, 8))
def test_each_piece_is_the_best_fit(lengths: Lengths, shape: tuple[int, int], documents: int) -> None:
    found = [batch.tokens.tolist() for batch in loader(lengths, whole(lengths), shape, documents)]
    assert found == list(slowly(lengths, shape, documents))


@settings(max_examples=200, deadline=None)
@given(st.data(), lengths_of(25), shapes, st.integers(1, 6))
def test_stopping_and_going_on_gives_the_same_batches(
    data: st.DataObject, lengths: Lengths, shape: tuple[int, int], documents: int
) -> None:
    unbroken = list(loader(lengths, whole(lengths), shape, documents))
    ledger = Ledger([len(lengths)])
    found: list[Batch] = []
    lease = 0
    while len(found) < len(unbroken):
        grant = ledger.lease(lease, 0, ledger.counts()["free"])  # all that is left of the epoch
        taken: list[Batch] = []
        for batch in loader(lengths, grant, shape, documents):
            taken.append(batch)
            if data.draw(st.booleans()):
                break
        ledger.settle(lease, *taken[-1].cursor, taken[-1].left)
        found += taken
        lease += 1
    assert [b.tokens.tolist() for b in found] == [b.tokens.tolist() for b in unbroken]
    assert [b.targets.tolist() for b in found] == [b.targets.tolist() for b in unbroken]


@settings(max_examples=200, deadline=None)
@given(lengths_of(12), shapes, st.integers(1, 6), st.randoms(use_true_random=False))
def test_random_leases_train_every_token_once(lengths: Lengths, shape: tuple[int, int], documents: int, random) -> None:
    """Leases of random length, some lost, stopped after random batches: what they train is what the ledger says."""
    lengths = lengths * 6  # one epoch, so that a token's id says which it is
    ledger = Ledger([len(lengths)])
    inputs: list[int] = []
    targets: list[int] = []
    opened = 0
    for lease in range(10):
        rows = random.randint(1, 7)
        if ledger._pools[0].frontier + rows > len(lengths):
            break
        grant = ledger.lease(lease, 0, rows)
        batches = []
        for batch in loader(lengths, grant, shape, documents):
            batches.append(batch)
            if random.random() < 0.3:
                break
        if not batches or random.random() < 0.2:
            ledger.release(lease)
            continue
        ledger.settle(lease, *batches[-1].cursor, batches[-1].left)
        for batch in batches:
            assert (batch.tokens[:, 0] == BOS).all()
            _check_targets(batch, lengths)
            inputs += batch.tokens[batch.tokens != BOS].tolist()
            targets += batch.targets[(batch.targets != BOS) & (batch.targets != IGNORE)].tolist()
            opened += int(((batch.tokens == BOS) & (batch.targets != IGNORE)).sum())
    assert len(set(inputs)) == len(inputs)
    assert len(set(targets)) == len(targets)
    assert set(inputs) <= set(targets)
    done = _done(ledger, lengths)
    assert sorted(inputs) == sorted(100 * row + token - 1 for row, token in done if token)
    assert opened == sum(token == 0 for _, token in done)
    counts = ledger.counts()
    assert (counts["lost"], counts["doubled"]) == (0, 0)
    assert counts["done"] == sum(all((r, t) in done for t in range(n + 1)) for r, n in enumerate(lengths))


def _check_targets(batch: Batch, lengths: Lengths) -> None:
    """Each token predicts the next of its document, the last one BOS."""
    after = np.stack((batch.tokens.ravel(), batch.targets.ravel()), axis=1)
    for token, target in after.tolist():
        if token == BOS:
            assert target in (IGNORE, BOS) or target % 100 == 0
        else:
            row, at = divmod(token, 100)
            assert target == (token + 1 if at + 1 < lengths[row] else BOS)


def _done(ledger: Ledger, lengths: Lengths) -> set[tuple[int, int]]:
    """Every (row, token) that the ledger holds to be trained."""
    done = ledger._pools[0].done
    everything = [(row, token) for row, length in enumerate(lengths) for token in range(length + 1)]
    return {position for position in everything if any(start <= position < stop for start, stop in done)}
