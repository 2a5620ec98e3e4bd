"""The row ledger: every row of every pool is exactly one of free, leased and done.

A pool is a sequence of N rows that is read over and over; stream row r is row r mod N of the pool in epoch r div N.
A position is a pair (row, token): it lies after all rows before `row` and after the first `token` tokens of `row`. The
next lease of a partly trained row continues at its token. Rows skipped before a position are submitted with it, as
spans.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Position = tuple[int, int]
Stretch = tuple[Position, Position]
"""The tokens between two positions."""


class Span(NamedTuple):
    """Stream rows [row, stop) without the first `token` tokens of `row`."""

    row: int
    token: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.row


@dataclass(frozen=True)
class Grant:
    """The rows of a lease: spans of one pool, in the order of training."""

    pool: int
    spans: tuple[Span, ...]

    def as_records(self) -> tuple[tuple[int, int, int], ...]:
        return records_of(self.spans)


def least_tokens(stretches: Iterable[Stretch]) -> int:
    """The least number of tokens that stretches can hold: every row has one or more."""
    tokens = 0
    for (row, token), (last, until) in stretches:
        tokens += until - token if row == last else last - row - 1 + until
    return tokens


def records_of(spans: Iterable[Span]) -> tuple[tuple[int, int, int], ...]:
    """Spans as (row, token, stop)."""
    return tuple([(row, token, stop) for row, token, stop in spans])


class _Pool:
    """The state of one pool. `frontier` is the first stream row that was never leased."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.frontier = 0
        self.free: list[Span] = []  # before the frontier, ordered; returned by leases
        self.done: list[tuple[Position, Position]] = []  # ordered, adjacent pieces joined
        self.doubled = 0

    def take(self, rows: int) -> tuple[Span, ...]:
        """Take `rows` rows: returned ones first, then new ones."""
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
        at = bisect_right(self.free, span)
        # Free spans are joined already, so the new span can only touch its neighbours.
        first, last = max(0, at - 1), at + 1
        self.free[first:last] = join_spans([*self.free[first:at], span, *self.free[at:last]])

    def finish(self, start: Position, stop: Position) -> None:
        """Mark [start, stop) trained; rows that were trained before are counted as doubled."""
        if start == stop:
            return
        # The pieces that overlap or touch it; they do not touch each other.
        first = last = bisect_left(self.done, (start,))
        while last < len(self.done) and self.done[last][0] <= stop:  # usually at most the next one
            last += 1
        first -= first > 0 and self.done[first - 1][1] >= start
        touched = self.done[first:last]
        for begin, end in touched:
            overlap_start, overlap_stop = max(start, begin), min(stop, end)
            if overlap_start < overlap_stop:
                self.doubled += _rows_touched(overlap_start, overlap_stop)
        if touched:
            start, stop = min(start, touched[0][0]), max(stop, touched[-1][1])
        self.done[first:last] = [(start, stop)]

    def rows_done(self) -> int:
        """Number of rows with every token trained."""
        return sum(max(0, stop[0] - (start[0] + (start[1] > 0))) for start, stop in self.done)

    def rows_total(self) -> int:
        epochs = max(1, -(-self.frontier // self.size))
        return epochs * self.size


def _rows_touched(start: Position, stop: Position) -> int:
    return stop[0] - start[0] + (stop[1] > 0)


def join_spans(spans: Iterable[Span]) -> list[Span]:
    """The same rows in ascending order, in as few spans as possible."""
    spans = sorted(spans)
    if len(spans) == 1:
        return spans
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
            raise ValueError("every client's pool must hold at least one row; use fewer clients or more data")
        self._pools = [_Pool(size) for size in sizes]
        self._leased: dict[int, Grant] = {}

    def lease(self, lease: int, pool: int, rows: int) -> Grant:
        """Lease `rows` rows of `pool` under the id `lease`; at least one."""
        if lease in self._leased:
            raise ValueError(f"lease {lease} is already in force")
        grant = Grant(pool, self._pools[pool].take(max(1, rows)))
        self._leased[lease] = grant
        return grant

    def settle(self, lease: int, row: int, token: int, left: Sequence[Span] = ()) -> None:
        """End a lease whose work was merged: rows before (row, token) are done, the rest is free.

        The spans in `left`, which lie before that position but were skipped, are free too.

        Raises:
            KeyError: the lease is not in force.
            ValueError: the cursor lies outside the lease, or the spans in `left` are not ascending parts of the lease
                before the cursor; nothing is changed.
        """
        grant = self._leased[lease]
        pool = self._pools[grant.pool]
        trained, free = _divided(grant, (row, token), left)
        del self._leased[lease]
        for start, stop in trained:
            pool.finish(start, stop)
        for span in free:
            pool.give_back(span)

    def trained(self, lease: int, row: int, token: int, left: Sequence[Span] = ()) -> list[Stretch]:
        """The stretches that `settle` would mark as trained. Raises what it would raise; changes nothing."""
        return _divided(self._leased[lease], (row, token), left)[0]

    def leased(self, lease: int) -> Grant:
        """The rows of a lease. Raises KeyError if it is not in force."""
        return self._leased[lease]

    def release(self, lease: int) -> None:
        """End a lease without merged work: its rows are free again. Raises KeyError if it is not in force."""
        grant = self._leased.pop(lease)
        for span in grant.spans:
            self._pools[grant.pool].give_back(span)

    def counts(self) -> dict[str, int]:
        """Rows by state, over the epochs begun so far. Each state is counted independently: `lost` rows are in no
        state, `doubled` ones were trained twice or are in two states.

        A partly trained row has the state of its remaining tokens; `partly` of the free rows are such.
        """
        total = sum(pool.rows_total() for pool in self._pools)
        done = sum(pool.rows_done() for pool in self._pools)
        leased = sum(span.rows for grant in self._leased.values() for span in grant.spans)
        free = sum(pool.rows_total() - pool.frontier + sum(s.rows for s in pool.free) for pool in self._pools)
        partly = sum(s.token > 0 for pool in self._pools for s in pool.free)  # at most the first of a span is
        doubled = sum(pool.doubled for pool in self._pools)
        gap = total - done - leased - free
        return {
            "total": total,
            "done": done,
            "leased": leased,
            "free": free,
            "partly": partly,
            "lost": max(0, gap),
            "doubled": doubled + max(0, -gap),
        }

    def copy(self) -> "Ledger":
        """An independent copy of the present state."""
        copied = Ledger([pool.size for pool in self._pools])
        for pool, kept in zip(self._pools, copied._pools, strict=True):
            kept.frontier, kept.doubled = pool.frontier, pool.doubled
            kept.free, kept.done = pool.free.copy(), pool.done.copy()
        copied._leased = self._leased.copy()
        return copied

    def to_record(self) -> dict[str, Any]:
        """JSON form. Leases in force are recorded as free rows, since they mean nothing to a later process."""
        leased: list[list[Span]] = [[] for _ in self._pools]
        for grant in self._leased.values():
            leased[grant.pool].extend(grant.spans)
        pools = []
        for pool, held in zip(self._pools, leased, strict=True):
            free = join_spans([*pool.free, *held])
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


def _divided(grant: Grant, cursor: Position, left: Sequence[Span]) -> tuple[list[Stretch], list[Span]]:
    """The trained stretches (start, stop) of a grant, and its untrained spans. Raises ValueError as `settle` does."""
    spans = join_spans(grant.spans)  # a skipped span may reach across a boundary between spans
    holder = _holder(spans, cursor)
    if len(spans) == 1 and not left:  # the usual case
        span = spans[0]
        rest = [Span(*cursor, span.stop)] if cursor[0] < span.stop else []
        return [((span.row, span.token), cursor)], rest
    trained: list[Stretch] = []
    free: list[Span] = []
    passed = deque(left)
    for i, span in enumerate(spans):
        start, stop = (span.row, span.token), (span.stop, 0)
        end = stop if i < holder else cursor if i == holder else start
        while passed and _lies_in(passed[0], start, end):
            hole = passed.popleft()
            trained.append((start, (hole.row, hole.token)))
            free.append(hole)
            start = (hole.stop, 0)
        trained.append((start, end))
        if end < stop:
            free.append(Span(*end, span.stop))
    if passed:
        raise ValueError(
            f"left must hold ascending parts of the lease's rows {records_of(spans)} before {cursor}, "
            f"got {tuple(passed[0])}"
        )
    return trained, free


def _lies_in(span: Span, start: Position, stop: Position) -> bool:
    return span.token >= 0 and span.rows > 0 and start <= (span.row, span.token) and (span.stop, 0) <= stop


def _holder(spans: Sequence[Span], cursor: Position) -> int:
    """Index of the span that contains the cursor; between two spans, the earlier one."""
    for i, span in enumerate(spans):
        if (span.row, span.token) <= cursor <= (span.stop, 0) and cursor[1] >= 0:
            return i
    raise ValueError(f"cursor {cursor} lies outside the lease's rows {records_of(spans)}")
