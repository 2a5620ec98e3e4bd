"""The loader: leased rows to batches of tokens, with the exact cursor after each batch."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from fednano.data.ledger import Grant, Position, Span

Tokens = npt.NDArray[np.int64]
RowNumbers = npt.NDArray[np.int64] | range
ROWS_PER_READ = 32
IGNORE = -1  # target that does not count, as in the model


@dataclass(frozen=True)
class Batch:
    """`tokens` and `targets` are (B, T) int64.

    Once this batch is trained, so is everything before `cursor`, except the spans in `left`.
    """

    tokens: Tokens
    targets: Tokens
    cursor: Position
    left: tuple[Span, ...] = ()


@dataclass(frozen=True)
class TextSource:
    """The source of the loader's tokens.

    Args:
        texts: corpus rows → their texts, in order, as a list or an Arrow array.
        encode: n texts → (ids of all texts, offsets of length n + 1).
        bos: id that begins every document.
    """

    texts: Callable[[Sequence[int]], Any]
    encode: Callable[[Any], tuple[npt.NDArray[np.integer], npt.NDArray[np.int64]]]
    bos: int

    def documents(self, rows: Sequence[int]) -> list[Tokens]:
        """Each row as BOS followed by its ids, int64."""
        ids, offsets = self.encode(self.texts(rows))
        opened = np.empty(len(ids) + len(offsets) - 1, dtype=np.int64)
        begins = offsets + np.arange(len(offsets))
        is_text = np.ones(len(opened), dtype=bool)
        is_text[begins[:-1]] = False
        opened[is_text] = ids
        opened[begins[:-1]] = self.bos
        return [opened[a:b] for a, b in pairwise(begins.tolist())]

    def lengths(self, rows: Sequence[int]) -> list[int]:
        """The number of tokens of each row, BOS included."""
        _, offsets = self.encode(self.texts(rows))
        lengths: list[int] = (np.diff(offsets) + 1).tolist()
        return lengths


@dataclass(frozen=True)
class Piece:
    """A row of the stream, from its token `token` on; `ids` are its tokens, int64, at least one."""

    row: int
    token: int
    ids: Tokens


class Packing(Protocol):
    """A `packing` choice: how rows become batches."""

    @property
    def spare_rows(self) -> int:
        """Rows that a lease needs in addition to those that hold its tokens."""

    def batches(self, pieces: Iterable[Piece], shape: tuple[int, int], bos: int) -> Iterator[Batch]:
        """Batches of `shape` (B, T) from `pieces`, in ascending order; what fills no batch stays untrained."""


@dataclass(frozen=True)
class Stream:
    """Documents as one sequence of tokens, cut wherever a batch is full.

    A batch trains B·T input tokens and needs the one after them as the last target, so up to B·T tokens at the end of
    a lease stay untrained.
    """

    spare_rows: ClassVar[int] = 0

    def batches(self, pieces: Iterable[Piece], shape: tuple[int, int], bos: int) -> Iterator[Batch]:
        B, T = shape
        need = B * T
        held: list[Tokens] = []  # the tokens [consumed, read) of the stream
        starts: deque[tuple[int, Position]] = deque()  # index in the stream and position of each piece
        seams: list[int] = []  # indices of tokens that do not continue the token before them
        read = consumed = 0
        for piece in pieces:
            starts.append((read, (piece.row, piece.token)))
            if piece.token:
                seams.append(read)
            held.append(piece.ids)
            read += len(piece.ids)
            if read - consumed <= need:
                continue
            tokens = np.concatenate(held)
            targets = tokens[1:].copy()
            # The token before a seam is followed by the middle of another row: nothing to predict.
            targets[[seam - consumed - 1 for seam in seams if seam > consumed]] = IGNORE
            for at in range(0, len(targets) - need + 1, need):
                consumed += need
                while len(starts) > 1 and starts[1][0] <= consumed:
                    starts.popleft()
                begin, (row, token) = starts[0]
                cut = slice(at, at + need)
                yield Batch(tokens[cut].reshape(B, T), targets[cut].reshape(B, T), (row, token + consumed - begin))
            held = [tokens[consumed - read :]]
            seams = [seam for seam in seams if seam > consumed]


STREAM = Stream()


class LeaseLoader:
    """Batches of a grant's rows; every iteration starts from the beginning.

    Args:
        source: texts and tokenizer.
        rows: corpus rows of the pool, N of them; stream row r is `rows[r % N]`.
        grant: the leased spans.
        batch_size: B.
        sequence_len: T.
        packing: how rows become batches.
    """

    behind = 0  # batches trained before the next one that it makes

    def __init__(
        self,
        source: TextSource,
        rows: RowNumbers,
        grant: Grant,
        batch_size: int,
        sequence_len: int,
        packing: Packing = STREAM,
    ) -> None:
        self._source = source
        self._rows = rows
        self.grant = grant
        self._shape = (batch_size, sequence_len)
        self._packing = packing

    def __iter__(self) -> Iterator[Batch]:
        return self._packing.batches(self._pieces(), self._shape, self._source.bos)

    def _pieces(self) -> Iterator[Piece]:
        """The grant's rows, or their remaining tokens, in order."""
        for span in self.grant.spans:
            for start in range(span.row, span.stop, ROWS_PER_READ):
                stream_rows = range(start, min(start + ROWS_PER_READ, span.stop))
                corpus_rows = [int(self._rows[r % len(self._rows)]) for r in stream_rows]
                for row, document in zip(stream_rows, self._source.documents(corpus_rows), strict=True):
                    token = span.token if row == span.row else 0
                    if token < len(document):
                        yield Piece(row, token, document[token:])


class PartedLoader(LeaseLoader):
    """A grant's batches in several iterations: each continues after the batches reported as trained.

    Batches that were made but not trained are yielded again, since a packing cannot start in the middle.
    """

    _rest: Iterator[Batch] | None = None  # set by the first iteration
    _made: deque[Batch]  # batches not reported as trained

    def __iter__(self) -> Iterator[Batch]:
        if self._rest is None:
            self._rest, self._made = super().__iter__(), deque()
        yield from list(self._made)
        for batch in self._rest:
            self._made.append(batch)
            yield batch

    def trained(self, batches: int) -> None:
        """Report the first `batches` batches of the grant as trained."""
        if self._rest is not None:  # an analytic trainer makes no batches
            for _ in range(min(batches - self.behind, len(self._made))):
                self._made.popleft()
        self.behind = batches
