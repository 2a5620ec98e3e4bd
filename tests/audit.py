"""Exactly-once from the event tape alone: what was granted, folded, merged and freed, replayed token by token of
position.

Positions are (row, token) pairs; a piece is (pool, start, stop). Nothing of the program's own book-keeping is used.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fednano.events import Event, LeaseGranted, LeaseReleased, RoundMerged, UpdateFolded

Position = tuple[int, int]
Piece = tuple[int, Position, Position]


@dataclass
class Audit:
    """What the tape proves. `rows_done` counts rows all of whose tokens are in merged updates."""

    violations: list[str] = field(default_factory=list)
    trained: list[Piece] = field(default_factory=list)
    open_leases: set[int] = field(default_factory=set)
    frontier: dict[int, int] = field(default_factory=dict)
    rows_done: int = 0


def audit(events: Iterable[Event]) -> Audit:  # noqa: PLR0912 — one branch an event
    """Replay the tape: neither leases in force nor merged work may overlap, and nothing granted may vanish."""
    result = Audit()
    grants: dict[int, LeaseGranted] = {}
    folded: dict[int, UpdateFolded] = {}
    in_force: set[int] = set()
    for event in events:
        match event:
            case LeaseGranted():
                for piece in _pieces(event):
                    for other in in_force:
                        if any(_overlap(piece, held) for held in _pieces(grants[other])):
                            result.violations.append(f"lease {event.lease} overlaps lease {other}")
                    if any(_overlap(piece, done) for done in result.trained):
                        result.violations.append(f"lease {event.lease} covers rows that are trained")
                    result.frontier[event.pool] = max(result.frontier.get(event.pool, 0), piece[2][0])
                if event.lease in grants:
                    result.violations.append(f"lease {event.lease} was granted twice")
                grants[event.lease] = event
                in_force.add(event.lease)
            case UpdateFolded():
                if event.lease in folded:
                    result.violations.append(f"lease {event.lease} was folded twice")
                folded[event.lease] = event
            case RoundMerged():
                for lease in event.leases:
                    if lease not in in_force:
                        result.violations.append(f"lease {lease} was merged but not in force")
                    in_force.discard(lease)
                    for piece in _trained(grants[lease], folded[lease]):
                        if any(_overlap(piece, done) for done in result.trained):
                            result.violations.append(f"lease {lease} was trained twice")
                        result.trained.append(piece)
            case LeaseReleased():
                if event.lease not in in_force:
                    result.violations.append(f"lease {event.lease} was released but not in force")
                in_force.discard(event.lease)
    result.open_leases = in_force
    result.rows_done = sum(_whole_rows([p for p in result.trained if p[0] == pool]) for pool in result.frontier)
    return result


def _pieces(grant: LeaseGranted) -> list[Piece]:
    return [(grant.pool, (row, token), (stop, 0)) for row, token, stop in grant.spans]


def _trained(grant: LeaseGranted, update: UpdateFolded) -> list[Piece]:
    """The part of a lease before the update's cursor, without what it passed over."""
    pieces = _until(_pieces(grant), (update.row, update.token))
    left = [(row, first if row == begin else 0) for begin, first, stop in update.left for row in range(begin, stop)]
    for row, token in left:
        held = next((p for p in pieces if p[1] <= (row, token) < (row + 1, 0) <= p[2]), None)
        assert held is not None, "what an update left lies outside what it reached"
        at = pieces.index(held)
        rests = [(held[0], held[1], (row, token)), (held[0], (row + 1, 0), held[2])]
        pieces[at : at + 1] = [rest for rest in rests if rest[1] < rest[2]]
    return pieces


def _until(pieces: list[Piece], cursor: Position) -> list[Piece]:
    """The part of a lease's pieces, in their order, that lies before the cursor."""
    before = []
    for pool, start, stop in pieces:
        if start <= cursor <= stop:
            if start < cursor:
                before.append((pool, start, cursor))
            return before
        before.append((pool, start, stop))
    raise AssertionError("the cursor lies outside its lease")


def _overlap(a: Piece, b: Piece) -> bool:
    return a[0] == b[0] and max(a[1], b[1]) < min(a[2], b[2])


def _whole_rows(pieces: list[Piece]) -> int:
    """Rows covered from their first to their last token by adjacent pieces."""
    joined: list[tuple[Position, Position]] = []
    for _, start, stop in sorted(pieces):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return sum(max(0, stop[0] - start[0] - (start[1] > 0)) for start, stop in joined)
