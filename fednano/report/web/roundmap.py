"""Where things go in the map of rounds: a row per client, a column per round, and what became of the work in it."""

from collections.abc import Sequence
from dataclasses import dataclass

from fednano.report import units
from fednano.report.history import ClientLane, History, WorkBar
from fednano.report.web.svg import Bar, Frame, Tick
from fednano.report.web.timeline import KINDS, WIDTH

MAX_COLUMNS = 60
GAP = 2.0  # pixels between cells


@dataclass(frozen=True, kw_only=True)
class MapRow:
    """One row in pixels: a client's cells, or those of the global model."""

    name: str
    y: float
    cells: tuple[Bar, ...]


@dataclass(frozen=True, kw_only=True)
class RoundMap:
    """The whole drawing, of the last MAX_COLUMNS rounds. The first row is the global model's: merged, or skipped."""

    frame: Frame
    rows: tuple[MapRow, ...]
    x_ticks: tuple[Tick, ...]
    kinds: tuple[tuple[str, str], ...]  # (kind, meaning) that occur, for the legend


def round_map(history: History) -> RoundMap | None:
    """The map, or None for a run without clients or before its first round."""
    lanes = list(history.lanes.values())
    newest = max(
        [*(r.round for r in history.rounds[-1:]), *(b.round for lane in lanes for b in _latest(lane))], default=-1
    )
    if not lanes or newest < 0:
        return None
    first = max(0, newest - MAX_COLUMNS + 1)
    columns = range(first, newest + 1)
    pitch = 22.0 if len(lanes) <= 32 else 14.0
    label = min(180.0, 24 + 7.2 * max(len("global model"), *(len(lane.client) for lane in lanes)))
    frame = Frame(width=WIDTH, height=8 + pitch * (len(lanes) + 1) + 40, left=label, right=12, top=8)
    slot = min(40.0, (frame.x1 - frame.left) / len(columns))
    unit = history.figures.unit

    def cell(round_: int, row: int, kind: str, note: str) -> Bar:
        return Bar(
            x=round(frame.left + (round_ - first) * slot + GAP / 2, 1),
            y=round(frame.top + row * pitch + GAP, 1),
            width=round(max(1.0, slot - GAP), 1),
            height=round(pitch - 2 * GAP, 1),
            label=f"{unit} {round_}: {note}",
            kind=kind,
        )

    ended = [r for r in history.rounds[-MAX_COLUMNS:] if r.round >= first]
    merges = tuple(
        cell(
            r.round,
            0,
            "done" if r.merged else "skipped",
            f"{_counted(r.updates)}, {r.tokens:,} tokens" if r.merged else f"skipped, {_counted(r.updates)}",
        )
        for r in ended
    )
    rows = [MapRow(name="global model", y=frame.top + pitch / 2, cells=merges)]
    for k, lane in enumerate(lanes, 1):
        drawn = {b.round: b for b in _latest(lane) if b.round >= first}  # of several in one round, the last
        cells = tuple(cell(n, k, b.kind, _said(lane.client, b)) for n, b in sorted(drawn.items()))
        rows.append(MapRow(name=lane.client, y=frame.top + (k + 0.5) * pitch, cells=cells))
    every = max(1, round(len(columns) / 12))
    present = {c.kind for row in rows[1:] for c in row.cells}
    return RoundMap(
        frame=frame,
        rows=tuple(rows),
        x_ticks=tuple(
            Tick(round(frame.left + (n - first + 0.5) * slot, 1), f"{n:,}") for n in columns if (n - first) % every == 0
        ),
        kinds=tuple((kind, meaning) for kind, meaning in KINDS.items() if kind in present),
    )


def _latest(lane: ClientLane) -> Sequence[WorkBar]:
    return [*lane.settled.newest(4 * MAX_COLUMNS), *lane.work.values()]


def _counted(updates: int) -> str:
    return units.plural(updates, "update")


def _said(client: str, bar: WorkBar) -> str:
    reason = f" ({bar.note})" if bar.note else ""
    when = f"{units.moment(bar.start)} to {units.moment(bar.stop)}"
    return f"{client}, {KINDS[bar.kind]}{reason}\n{units.plural(bar.steps, 'step')}, {when}"
