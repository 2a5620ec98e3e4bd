"""Leased rows → batches of tokens, with the exact cursor after each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from fednano.data.ledger import Grant, Position, Span

Tokens = npt.NDArray[np.int64]
RowNumbers = npt.NDArray[np.int64] | range
ROWS_PER_READ = 32
IGNORE = -1  # target that does not count, as in the model


@dataclass(frozen=True)
class Batch:
    """`tokens` and `targets` are (B, T) int64; `cursor` is the position of the first token left untrained."""

    tokens: Tokens
    targets: Tokens
    cursor: Position


@dataclass(frozen=True)
class TextSource:
    """Where the loader gets its tokens.

    Args:
        texts: texts of the given corpus rows, in order, as a list or an Arrow array.
        encode: texts → (ids of all, offsets of length n + 1).
        bos: id that opens every document.
    """

    texts: Callable[[Sequence[int]], Any]
    encode: Callable[[Any], tuple[npt.NDArray[np.integer], npt.NDArray[np.int64]]]
    bos: int

    def documents(self, rows: Sequence[int]) -> list[Tokens]:
        """Each row as BOS followed by its ids, int64."""
        ids, offsets = self.encode(self.texts(rows))
        ids = ids.astype(np.int64)
        head = np.array([self.bos], dtype=np.int64)
        return [np.concatenate((head, ids[a:b])) for a, b in pairwise(offsets)]


class LeaseLoader:
    """Streams a grant's rows as one sequence of tokens, cut into (B, T) batches.

    A batch trains B·T input tokens and needs the one after them as the last target, so up to B·T tokens at the end of
    a lease stay untrained; the cursor says so and the ledger frees them.

    Args:
        source: texts and tokenizer.
        rows: corpus rows of the pool, N of them; stream row r is `rows[r % N]`.
        grant: the leased spans.
        batch_size: B.
        sequence_len: T.
    """

    def __init__(self, source: TextSource, rows: RowNumbers, grant: Grant, batch_size: int, sequence_len: int) -> None:
        self._source = source
        self._rows = rows
        self._grant = grant
        self._shape = (batch_size, sequence_len)

    def position(self, share: float) -> Position:
        """The start of the row that lies `share` of the lease's rows from its beginning."""
        rows = int(share * sum(span.rows for span in self._grant.spans))
        for span in self._grant.spans:
            if rows < span.rows:
                return (span.row + rows, 0 if rows else span.token)
            rows -= span.rows
        return (self._grant.spans[-1].stop, 0)

    def __iter__(self) -> Iterator[Batch]:
        B, T = self._shape
        need = B * T
        buffer = np.empty(0, dtype=np.int64)
        targets = np.empty(0, dtype=np.int64)
        starts: list[tuple[int, Position]] = []  # (index in the whole stream, position) of each piece read so far
        read = consumed = 0
        for piece, position, seam in self._pieces():
            starts.append((read, position))
            read += len(piece)
            if len(targets):
                # The token before a seam is followed by the middle of another row: nothing to predict.
                targets[-1] = IGNORE if seam else piece[0]
            buffer = np.concatenate((buffer, piece))
            targets = np.concatenate((targets, piece[1:], [IGNORE]))
            while len(buffer) > need:
                consumed += need
                while len(starts) > 1 and starts[1][0] <= consumed:
                    starts.pop(0)
                begin, (row, token) = starts[0]
                yield Batch(buffer[:need].reshape(B, T), targets[:need].reshape(B, T), (row, token + consumed - begin))
                buffer, targets = buffer[need:], targets[need:]

    def _pieces(self) -> Iterator[tuple[Tokens, Position, bool]]:
        """(tokens of one row or what is left of it, position of the first, whether the row before it was cut off)."""
        for span in self._grant.spans:
            for start in range(span.row, span.stop, ROWS_PER_READ):
                stream_rows = range(start, min(start + ROWS_PER_READ, span.stop))
                corpus_rows = [int(self._rows[r % len(self._rows)]) for r in stream_rows]
                for row, document in zip(stream_rows, self._source.documents(corpus_rows), strict=True):
                    token = _first_token(span, row)
                    yield document[token:], (row, token), token > 0


def _first_token(span: Span, row: int) -> int:
    return span.token if row == span.row else 0
