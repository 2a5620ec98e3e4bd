"""Leased rows → batches of tokens, with the exact cursor after each."""

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

    What lies before `cursor` is trained once this batch is, but for the spans in `left`.
    """

    tokens: Tokens
    targets: Tokens
    cursor: Position
    left: tuple[Span, ...] = ()


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
        opened = np.empty(len(ids) + len(offsets) - 1, dtype=np.int64)
        begins = offsets + np.arange(len(offsets))
        is_text = np.ones(len(opened), dtype=bool)
        is_text[begins[:-1]] = False
        opened[is_text] = ids
        opened[begins[:-1]] = self.bos
        return [opened[a:b] for a, b in pairwise(begins.tolist())]


@dataclass(frozen=True)
class Piece:
    """A row of the stream from its token `token` on; `ids` are its tokens, int64, at least one."""

    row: int
    token: int
    ids: Tokens


class Packing(Protocol):
    """A `packing` choice: how rows make batches."""

    @property
    def spare_rows(self) -> int:
        """Rows that a lease needs beyond those that hold its tokens."""

    def batches(self, pieces: Iterable[Piece], shape: tuple[int, int], bos: int) -> Iterator[Batch]:
        """Batches of `shape` (B, T) from `pieces`, in ascending order; what fills no batch stays untrained."""


@dataclass(frozen=True)
class Stream:
    """The pieces as one sequence of tokens, cut wherever a batch is full.

    A batch trains B·T input tokens and needs the one after them as the last target, so up to B·T tokens at the end of
    a lease stay untrained.
    """

    spare_rows: ClassVar[int] = 0

    def batches(self, pieces: Iterable[Piece], shape: tuple[int, int], bos: int) -> Iterator[Batch]:
        B, T = shape
        need = B * T
        held: list[Tokens] = []  # together the tokens [consumed, read) of the stream
        starts: deque[tuple[int, Position]] = deque()  # index in the whole stream and position of each piece
        seams: list[int] = []  # indices of tokens that do not follow on the one before them
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
    """Batches of a grant's rows, each time it is iterated.

    Args:
        source: texts and tokenizer.
        rows: corpus rows of the pool, N of them; stream row r is `rows[r % N]`.
        grant: the leased spans.
        batch_size: B.
        sequence_len: T.
        packing: how rows make batches.
    """

    behind = 0  # batches that were trained before the next one that it makes

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
        """The grant's rows, or what is left of them, in order."""
        for span in self.grant.spans:
            for start in range(span.row, span.stop, ROWS_PER_READ):
                stream_rows = range(start, min(start + ROWS_PER_READ, span.stop))
                corpus_rows = [int(self._rows[r % len(self._rows)]) for r in stream_rows]
                for row, document in zip(stream_rows, self._source.documents(corpus_rows), strict=True):
                    token = span.token if row == span.row else 0
                    if token < len(document):
                        yield Piece(row, token, document[token:])


class PartedLoader(LeaseLoader):
    """A grant's batches once, in as many parts as it is iterated: each goes on behind what is said to be trained.

    What was made and not trained comes again, since a packing cannot be begun in the middle.
    """

    _rest: Iterator[Batch] | None = None  # once it was iterated
    _made: deque[Batch]  # batches that are not said to be trained

    def __iter__(self) -> Iterator[Batch]:
        if self._rest is None:
            self._rest, self._made = super().__iter__(), deque()
        yield from list(self._made)
        for batch in self._rest:
            self._made.append(batch)
            yield batch

    def trained(self, batches: int) -> None:
        """The first `batches` of the grant are trained."""
        if self._rest is not None:  # who trains without reading has had none of them made
            for _ in range(min(batches - self.behind, len(self._made))):
                self._made.popleft()
        self.behind = batches
