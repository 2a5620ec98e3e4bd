"""The row ledger: every row of every pool is free, leased or done, and never two of these.

A pool is a sequence of N rows that is read over and over; stream row r is row r mod N of the pool in epoch r div N.
Positions are (row, token) pairs: all rows before `row` and the first `token` tokens of `row` lie behind them. A
partly trained row goes on at its token, with whoever leases it next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Position = tuple[int, int]


@dataclass(frozen=True)
class Span:
    """Stream rows [row, stop) without the first `token` tokens of `row`."""

    row: int
    token: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.row


@dataclass(frozen=True)
class Grant:
    """What a lease covers: spans of one pool, in the order in which they are to be trained."""

    pool: int
    spans: tuple[Span, ...]

    def as_records(self) -> tuple[tuple[int, int, int], ...]:
        return tuple((span.row, span.token, span.stop) for span in self.spans)


class _Pool:
    """Book-keeping of one pool. `frontier` is the first stream row that was never leased."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.frontier = 0
        self.free: list[Span] = []  # behind the frontier, ordered, given back by leases
        self.done: list[tuple[Position, Position]] = []  # ordered, adjacent pieces joined
        self.doubled = 0

    def take(self, rows: int) -> tuple[Span, ...]:
        """`rows` rows: first what was given back, then new ones."""
        taken: list[Span] = []
        while rows > 0 and self.free:
            span = self.free.pop(0)
            if span.rows > rows:
                self.free.insert(0, Span(span.row + rows, 0, span.stop))
                span = Span(span.row, span.token, span.row + rows)
            taken.append(span)
            rows -= span.rows
        if rows > 0:
            taken.append(Span(self.frontier, 0, self.frontier + rows))
            self.frontier += rows
        return tuple(taken)

    def give_back(self, span: Span) -> None:
        self.free = _join_spans(sorted([*self.free, span], key=lambda s: (s.row, s.token)))

    def finish(self, start: Position, stop: Position) -> None:
        """Mark [start, stop) trained; rows that were trained before are counted as doubled."""
        if start == stop:
            return
        for begin, end in self.done:
            overlap_start, overlap_stop = max(start, begin), min(stop, end)
            if overlap_start < overlap_stop:
                self.doubled += _rows_touched(overlap_start, overlap_stop)
        joined: list[tuple[Position, Position]] = []
        for begin, end in sorted([*self.done, (start, stop)]):
            if joined and begin <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], end))
            else:
                joined.append((begin, end))
        self.done = joined

    def rows_done(self) -> int:
        """Rows whose every token is trained."""
        return sum(max(0, stop[0] - (start[0] + (start[1] > 0))) for start, stop in self.done)

    def rows_total(self) -> int:
        epochs = max(1, -(-self.frontier // self.size))
        return epochs * self.size


def _rows_touched(start: Position, stop: Position) -> int:
    return stop[0] - start[0] + (stop[1] > 0)


def _join_spans(spans: Sequence[Span]) -> list[Span]:
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1].stop == span.row and span.token == 0:
            joined[-1] = Span(joined[-1].row, joined[-1].token, span.stop)
        else:
            joined.append(span)
    return joined


class Ledger:
    """Rows of all pools.

    Args:
        sizes: rows of each pool, all positive.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        if not sizes or min(sizes) < 1:
            raise ValueError("every pool needs at least one row; use fewer clients or more data")
        self._pools = [_Pool(size) for size in sizes]
        self._leased: dict[int, Grant] = {}

    def lease(self, lease: int, pool: int, rows: int) -> Grant:
        """Lease `rows` rows of `pool` under the id `lease`; at least one."""
        if lease in self._leased:
            raise ValueError(f"lease {lease} is already in force")
        grant = Grant(pool, self._pools[pool].take(max(1, rows)))
        self._leased[lease] = grant
        return grant

    def settle(self, lease: int, row: int, token: int) -> None:
        """End a lease whose work went into the global model: what lies before (row, token) is done, the rest is free.

        Raises:
            KeyError: the lease is not in force.
            ValueError: the cursor lies outside the lease; nothing is changed.
        """
        grant = self._leased[lease]
        pool = self._pools[grant.pool]
        holder = self._holder(grant, row, token)
        del self._leased[lease]
        for i, span in enumerate(grant.spans):
            start = (span.row, span.token)
            if i < holder:
                pool.finish(start, (span.stop, 0))
            elif i > holder:
                pool.give_back(span)
            else:
                pool.finish(start, (row, token))
                if row < span.stop:
                    pool.give_back(Span(row, token, span.stop))

    def check_cursor(self, lease: int, row: int, token: int) -> None:
        """Raise what `settle` would raise, and change nothing."""
        self._holder(self._leased[lease], row, token)

    @staticmethod
    def _holder(grant: Grant, row: int, token: int) -> int:
        """Index of the span that the cursor lies in; at a seam, the earlier one."""
        for i, span in enumerate(grant.spans):
            if (span.row, span.token) <= (row, token) <= (span.stop, 0):
                return i
        raise ValueError(f"cursor ({row}, {token}) lies outside the lease's rows {grant.as_records()}")

    def release(self, lease: int) -> None:
        """End a lease whose work is not in the global model: its rows are free again. KeyError if not in force."""
        grant = self._leased.pop(lease)
        for span in grant.spans:
            self._pools[grant.pool].give_back(span)

    def counts(self) -> dict[str, int]:
        """Rows by state, over the epochs begun so far. Each is counted on its own: `lost` rows are in no state,
        `doubled` ones were trained twice or are in two states.

        A row of which some tokens are trained counts by who holds its rest.
        """
        total = sum(pool.rows_total() for pool in self._pools)
        done = sum(pool.rows_done() for pool in self._pools)
        leased = sum(span.rows for grant in self._leased.values() for span in grant.spans)
        free = sum(pool.rows_total() - pool.frontier + sum(s.rows for s in pool.free) for pool in self._pools)
        doubled = sum(pool.doubled for pool in self._pools)
        gap = total - done - leased - free
        return {
            "total": total,
            "done": done,
            "leased": leased,
            "free": free,
            "lost": max(0, gap),
            "doubled": doubled + max(0, -gap),
        }

    def to_record(self) -> dict[str, Any]:
        """JSON form; leases in force are recorded as free, since whoever reads this cannot honour them."""
        pools = []
        for i, pool in enumerate(self._pools):
            leased = [s for grant in self._leased.values() if grant.pool == i for s in grant.spans]
            free = _join_spans(sorted([*pool.free, *leased], key=lambda s: (s.row, s.token)))
            pools.append(
                {
                    "size": pool.size,
                    "frontier": pool.frontier,
                    "free": [[s.row, s.token, s.stop] for s in free],
                    "done": pool.done,
                    "doubled": pool.doubled,
                }
            )
        return {"pools": pools}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Ledger":
        """The inverse of `to_record`."""
        ledger = cls([pool["size"] for pool in record["pools"]])
        for pool, saved in zip(ledger._pools, record["pools"], strict=True):
            pool.frontier = saved["frontier"]
            pool.free = [Span(*span) for span in saved["free"]]
            pool.done = [(tuple(start), tuple(stop)) for start, stop in saved["done"]]
            pool.doubled = saved["doubled"]
        return ledger
