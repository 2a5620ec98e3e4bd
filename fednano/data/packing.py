"""Best-fit packing: every row of a batch begins with BOS, and documents are cut only if none fits whole."""

from bisect import bisect, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from fednano.data.ledger import Position, Span, join_spans
from fednano.data.loader import IGNORE, Batch, Piece, Tokens

Entry = tuple[int, int, Piece]  # places that the piece takes in an empty row, minus its row, the piece


@dataclass(frozen=True)
class BestFit:
    """Fills each row of T tokens from a buffer of documents, as nanochat does (Karpathy, 2025), but discards nothing.

    The next piece of a row is the largest that fits its free places, and among equals the earliest. A piece longer than
    T counts as T, since no row could hold it whole. If none fits, the shortest is cut. Its remainder stays in the
    buffer as a piece like any other, after a BOS of its own whose target does not count: the remainder's first token
    was already the target of the last one before the cut. So every token of a document is an input once and, except
    BOS, a target once; a document's last token predicts BOS.

    The buffer and the batches depend on the remaining rows alone: the next lease of rows that a batch leaves untrained
    continues as if there had been no stop. At the end of a lease, up to B·T tokens stay untrained.

    Args:
        documents: number of documents in the buffer from which the next one is chosen.

    Raises:
        ValueError: fewer than one.
    """

    documents: int = 64

    def __post_init__(self) -> None:
        if self.documents < 1:
            raise ValueError(f"packing.documents must be >= 1, got {self.documents}; use, for example, 64")

    @property
    def spare_rows(self) -> int:
        """Additional rows that a lease needs, since documents in the buffer at its end may be partly trained."""
        return self.documents

    def batches(self, pieces: Iterable[Piece], shape: tuple[int, int], bos: int) -> Iterator[Batch]:
        """Batches of `shape` (B, T) from `pieces`, in ascending order; what fills no batch stays untrained."""
        buffer = _Buffer(iter(pieces), self.documents, shape[1])
        while True:
            tokens, targets = np.empty(shape, np.int64), np.empty(shape, np.int64)
            for row in range(shape[0]):
                if not _fill(tokens[row], targets[row], buffer, bos):
                    return
            yield Batch(tokens, targets, buffer.cursor, buffer.left())


def _fill(tokens: Tokens, targets: Tokens, buffer: "_Buffer", bos: int) -> bool:
    """Fill one row, (T,) each; returns False if there are too few pieces."""
    at = 0
    while at < len(tokens):
        piece = buffer.take(len(tokens) - at)
        if piece is None:
            return False
        if piece.token:
            tokens[at], targets[at] = bos, IGNORE
            at += 1
        ids = piece.ids
        taken = min(len(ids), len(tokens) - at)
        tokens[at : at + taken] = ids[:taken]
        targets[at : at + taken - 1] = ids[1:taken]
        if taken:
            targets[at + taken - 1] = ids[taken] if taken < len(ids) else bos
        if taken < len(ids):
            buffer.put(Piece(piece.row, piece.token + taken, ids[taken:]))
        at += taken
    return True


class _Buffer:
    """The first `size` of the remaining pieces, by the places they take in a row of T."""

    def __init__(self, pieces: Iterator[Piece], size: int, T: int) -> None:
        self._pieces = pieces
        self._size = size
        self._T = T
        self._entries: list[Entry] = []
        self.cursor: Position = (0, 0)  # after the last piece read

    def take(self, room: int) -> Piece | None:
        """The largest piece that fits into `room` places, else the shortest; None if no piece is left."""
        while len(self._entries) < self._size and (piece := next(self._pieces, None)) is not None:
            self.put(piece)
            self.cursor = (piece.row + 1, 0)
        if not self._entries:
            return None
        places = max(room, self._entries[0][0])
        return self._entries.pop(bisect(self._entries, places, key=lambda entry: entry[0]) - 1)[2]

    def put(self, piece: Piece) -> None:
        places = min(len(piece.ids) + (piece.token > 0), self._T)
        insort(self._entries, (places, -piece.row, piece))

    def left(self) -> tuple[Span, ...]:
        """The content of the buffer."""
        return tuple(join_spans(Span(piece.row, piece.token, piece.row + 1) for _, _, piece in self._entries))
