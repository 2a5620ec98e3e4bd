"""The exactly-once audit: replays an event log's leases, updates, merges and releases position by position.

It uses the event log alone, none of the program's own bookkeeping. A position is a pair (row, token): it lies after all
rows before `row` and after the first `token` tokens of `row`.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fednano.core.event_log import from_record, read_whole
from fednano.core.events import EVENTS, Event, LeaseGranted, LeaseReleased, RoundMerged, RunEnded, UpdateFolded
from fednano.core.inner_step import InnerStep
from fednano.data.ledger import Position

AuditedPiece = tuple[Position, Position]
AUDITED = {kind.__name__ for kind in (LeaseGranted, LeaseReleased, RoundMerged, RunEnded, UpdateFolded)}
FREE, DONE, LOST, NEW = -1, -2, -3, -4  # owners of positions that no lease holds; NEW was never granted
END: Position = (2**62, 0)


class _AuditedPool:
    """The owner of each position in a pool: `owners[i]` from `starts[i]` to `starts[i + 1]`; the last has no end."""

    def __init__(self) -> None:
        self.starts: list[Position] = [(0, 0)]
        self.owners = [NEW]
        self.free = 0  # number of FREE entries in `owners`

    @property
    def frontier(self) -> Position:
        return self.starts[-1]

    def take(self, piece: AuditedPiece, owner: int, only: int | None = None) -> list[int]:
        """Give a piece to `owner`, or only the part of it that `only` holds; returns the previous owners."""
        start, stop = piece
        if start >= stop:
            return []
        if start == self.frontier and only is None and owner != self.owners[-2:][0]:  # a lease of new rows, as most are
            self.owners[-1:] = [owner, NEW]
            self.starts.append(stop)
            self.free += owner == FREE
            return [NEW]
        first, last = self._cut(start), self._cut(stop)
        held = self.owners[first:last]
        if only is None:
            del self.starts[first + 1 : last]
            taken = [owner]
        else:
            taken = [owner if had == only else had for had in held]
        self.owners[first:last] = taken
        self.free += taken.count(FREE) - held.count(FREE)
        self._join(first, first + len(taken))
        return held

    def divide(self, piece: AuditedPiece, cursor: Position, owner: int) -> bool:
        """Mark a piece as done before the cursor and free after it, if `owner` holds it undivided; returns whether.

        Equals two calls of `take`, in a third of the time.
        """
        start, stop = piece
        i = bisect_left(self.starts, start)
        if not (self.starts[i : i + 2] == [start, stop] and self.owners[i] == owner and start < cursor < stop):
            return False
        self.starts.insert(i + 1, cursor)
        self.owners[i : i + 1] = [DONE, FREE]
        self.free += 1
        self._join(i, i + 2)
        return True

    def _cut(self, at: Position) -> int:
        """Make an entry begin at `at`, and return its index."""
        i = bisect_left(self.starts, at)
        if i == len(self.starts) or self.starts[i] != at:
            had = self.owners[i - 1]
            self.starts.insert(i, at)
            self.owners.insert(i, had)
            self.free += had == FREE
        return i

    def _join(self, first: int, last: int) -> None:
        """Join neighbouring entries of one owner, at the boundaries from `first` to `last`."""
        owners = self.owners
        for i in range(min(last, len(owners) - 1), max(first, 1) - 1, -1):
            if owners[i] == owners[i - 1]:
                self.free -= owners[i] == FREE
                del self.starts[i], owners[i]

    def pieces(self, owner: int) -> list[AuditedPiece]:
        """The pieces that `owner` holds."""
        stops = [*self.starts[1:], END]
        return [(a, b) for a, b, had in zip(self.starts, stops, self.owners, strict=True) if had == owner]

    def rows_done(self) -> int:
        """Rows whose every token is done."""
        return sum(max(0, stop[0] - start[0] - (start[1] > 0)) for start, stop in self.pieces(DONE))


@dataclass(kw_only=True)
class Auditor:
    """Audits an event log while it is written or read: feed it every event in order.

    Each row must be trained into the global model once, or be free, leased or new. A violation names the line of its
    event, counted from 1. Time grows with the number of events times the logarithm of the leases in force.
    """

    violations: list[str] = field(default_factory=list)
    events: int = 0
    torn: bool = False
    _pools: dict[int, _AuditedPool] = field(default_factory=dict)
    _grants: dict[int, LeaseGranted] = field(default_factory=dict)  # of the leases in force
    _folded: dict[int, UpdateFolded] = field(default_factory=dict)
    _newest: int = -1

    @property
    def open_leases(self) -> set[int]:
        """Leases in force."""
        return set(self._grants)

    @property
    def rows_done(self) -> int:
        """Rows all of whose tokens are in merged updates."""
        return sum(pool.rows_done() for pool in self._pools.values())

    def verdict(self) -> dict[str, int]:
        """The figures of the audit for a summary."""
        return {"events": self.events, "violations": len(self.violations)}

    def event(self, event: Event) -> None:
        self.events += 1
        match event:
            case LeaseGranted():
                self._grant(event)
            case UpdateFolded():
                self._fold(event)
            case RoundMerged():
                self._merge(event)
            case LeaseReleased():
                self._release(event)
            case RunEnded():
                for lease in self._grants:
                    self._violated(f"lease {lease} is in force at the end of the run: its rows are lost")

    def step(self, step: InnerStep) -> None:
        pass

    def close(self, summary: dict[str, Any]) -> None:
        pass

    def _violated(self, what: str) -> None:
        self.violations.append(f"line {self.events}: {what}")

    def _grant(self, event: LeaseGranted) -> None:
        if event.lease <= self._newest:
            self._violated(f"lease {event.lease} is granted after lease {self._newest}")
            if event.lease in self._grants:
                self._free(event.lease, _pieces(self._grants[event.lease].spans))
        self._newest = max(self._newest, event.lease)
        self._grants[event.lease] = event
        pool = self._pools.setdefault(event.pool, _AuditedPool())
        is_new = False
        for start, stop in _pieces(event.spans):
            if start > pool.frontier:
                self._violated(f"pool {event.pool} loses {_shown((pool.frontier, start))}, which no lease was granted")
                pool.take((pool.frontier, start), LOST)
            held = pool.take((start, stop), event.lease)
            is_new = is_new or NEW in held
            for owner in dict.fromkeys(held):
                if owner >= 0:
                    self._violated(f"lease {event.lease} overlaps lease {owner}")
                elif owner == DONE:
                    self._violated(f"lease {event.lease} covers rows that are trained")
        if is_new and pool.free:
            # The ledger grants returned rows before new ones: returned rows that it passes over are forgotten.
            for piece in pool.pieces(FREE):
                self._violated(f"pool {event.pool} loses {_shown(piece)}, which were given back, for new rows")
                pool.take(piece, LOST)

    def _fold(self, event: UpdateFolded) -> None:
        if event.lease in self._folded:
            self._violated(f"lease {event.lease} is accumulated twice")
        elif event.lease not in self._grants:
            self._violated(f"lease {event.lease} is accumulated but not in force")
        else:
            self._folded[event.lease] = event

    def _merge(self, event: RoundMerged) -> None:
        tokens, whole = 0, bool(event.leases)
        for lease in event.leases:
            update = self._folded.get(lease)
            whole = whole and update is not None
            if lease not in self._grants:
                self._violated(f"lease {lease} is merged but not in force")
            elif update is None:
                self._violated(f"lease {lease} is merged without an update")
            else:
                tokens += update.tokens
                self._settle(lease, update)
        if whole and tokens != event.tokens:
            self._violated(f"round {event.round} merges {event.tokens} tokens, its updates hold {tokens}")

    def _settle(self, lease: int, update: UpdateFolded) -> None:
        grant = self._grants[lease]
        pool = self._pools[grant.pool]
        cursor, rest = (update.row, update.token), _pieces(grant.spans)
        if len(rest) == 1 and not update.left and pool.divide(rest[0], cursor, lease):  # the usual case
            self._free(lease, [])
            return
        trained = _trained(_joined(rest), cursor, update.left)
        if trained is None:
            self._violated(f"lease {lease} ends at {cursor} or leaves rows that are not its own")
        else:
            for piece in trained:
                if DONE in pool.take(piece, DONE):
                    self._violated(f"lease {lease} trains rows twice")
            rest = [(max(start, cursor), stop) for start, stop in rest if stop > cursor] + _pieces(update.left)
        self._free(lease, rest)

    def _release(self, event: LeaseReleased) -> None:
        if event.lease in self._grants:
            self._free(event.lease, _pieces(self._grants[event.lease].spans))
        else:
            self._violated(f"lease {event.lease} is released but not in force")

    def _free(self, lease: int, rest: list[AuditedPiece]) -> None:
        """End a lease and free what it still holds, all of which is in `rest`."""
        self._folded.pop(lease, None)
        pool = self._pools[self._grants.pop(lease).pool]
        for piece in rest:
            pool.take(piece, FREE, only=lease)


def audit(events: Iterable[Event]) -> Auditor:
    """The audit of a whole event log."""
    auditor = Auditor()
    for event in events:
        auditor.event(event)
    return auditor


def audit_log(path: Path) -> Auditor:
    """The audit of an `events.jsonl`, read line by line; an incomplete last line is ignored.

    Raises DamagedLogError naming a line that is not an event.
    """
    auditor = Auditor()

    def hear(record: dict[str, Any]) -> bool:
        name = record["event"]
        if name in AUDITED:
            auditor.event(from_record(record))
        elif name in EVENTS:  # as most are: it has nothing to do with rows
            auditor.events += 1
        else:
            raise LookupError(name)
        return True

    for whole in read_whole(path, hear):
        auditor.torn = not whole
    return auditor


def _pieces(spans: Iterable[tuple[int, int, int]]) -> list[AuditedPiece]:
    return [((row, token), (stop, 0)) for row, token, stop in spans]


def _joined(pieces: list[AuditedPiece]) -> list[AuditedPiece]:
    joined: list[AuditedPiece] = []
    for start, stop in sorted(pieces):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined


def _trained(
    pieces: list[AuditedPiece], cursor: Position, left: Iterable[tuple[int, int, int]]
) -> list[AuditedPiece] | None:
    """A lease's pieces before the cursor, less the spans in `left`; None if the cursor or a span lies outside."""
    if cursor[1] < 0 or not any(start <= cursor <= stop for start, stop in pieces):
        return None
    rest = [(start, min(stop, cursor)) for start, stop in pieces if start < cursor]
    for row, token, stop in left:
        hole = ((row, token), (stop, 0))
        at = next((i for i, (a, b) in enumerate(rest) if a <= hole[0] < hole[1] <= b), None)
        if at is None:
            return None
        rest[at : at + 1] = [p for p in ((rest[at][0], hole[0]), (hole[1], rest[at][1])) if p[0] < p[1]]
    return rest


def _shown(piece: AuditedPiece) -> str:
    (row, token), (stop, more) = piece
    return f"rows {row}.{token} to {stop}.{more}" if token or more else f"rows {row} to {stop}"
