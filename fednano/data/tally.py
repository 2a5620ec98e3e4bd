"""The number of tokens in trained rows, counted again by the server to check what a client claims."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fednano.data.ledger import Stretch
from fednano.data.loader import ROWS_PER_READ, Packing, RowNumbers, Stream, TextSource
from fednano.data.packing import BestFit

Cut = tuple[int, int, int | None]  # of a stream row: its tokens from one until another, or all from there on


@dataclass(frozen=True)
class Tally:
    """Counts tokens as a loader reads them. It costs what tokenizing the rows costs, and is cut short by a lie.

    Args:
        source: texts and tokenizer.
        pools: corpus rows of every pool.
        packing: how rows became batches.
        shape: (B, T).
    """

    source: TextSource
    pools: Sequence[RowNumbers]
    packing: Packing
    shape: tuple[int, int]

    def check(self, pool: int, stretches: Sequence[Stretch], steps: int) -> None:
        """Raise ValueError unless `steps` steps can have trained just these stretches of a pool.

        No packing trains more of a row than the places in its batches. How many places hold other things than tokens of
        rows is known only of the packings that come with fednano.
        """
        B, T = self.shape
        places = steps * B * T
        tokens = 0
        for held in self._counted(pool, stretches):
            tokens += held
            if tokens > places:
                raise ValueError(f"{steps} steps train {places} tokens, but the rows up to the cursor hold more")
        if isinstance(self.packing, Stream):
            spare = 0
        elif isinstance(self.packing, BestFit):  # a place for each BOS of a remainder: cut here, or before the lease
            spare = steps * B + sum(start[1] > 0 for start, _ in stretches)
        else:
            return
        if tokens < places - spare:
            raise ValueError(f"{steps} steps train {places} tokens, but the rows up to the cursor hold {tokens}")

    def _counted(self, pool: int, stretches: Sequence[Stretch]) -> Iterator[int]:
        """The tokens of a few rows at a time. Raises ValueError if a position lies behind the end of its row."""
        rows, few = self.pools[pool], []
        for part in _parts(stretches):
            few.append(part)
            if len(few) == ROWS_PER_READ:
                yield self._held(rows, few)
                few = []
        if few:
            yield self._held(rows, few)

    def _held(self, rows: RowNumbers, parts: Sequence[Cut]) -> int:
        tokens = 0
        lengths = self.source.lengths([int(rows[row % len(rows)]) for row, _, _ in parts])
        for (row, start, stop), length in zip(parts, lengths, strict=True):
            if max(start, stop or 0) > length:
                raise ValueError(f"row {row} has {length} tokens, but one after them is said to be trained or left")
            tokens += (length if stop is None else stop) - start
        return tokens


def _parts(stretches: Sequence[Stretch]) -> Iterator[Cut]:
    for (row, token), (last, until) in stretches:
        for at in range(row, last):
            yield at, token if at == row else 0, None
        if until:
            yield last, token if last == row else 0, until
