"""Where things go in the availability timeline: one lane per client. Pure arithmetic."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from fednano.report import units
from fednano.report.history import ClientLane, History, WorkBar
from fednano.report.web.svg import Bar, Dot, Frame, Scale, Tick, time_label, time_ticks

MAX_MERGES = 150  # if there are more, none are drawn: they would grey the drawing out
MAX_CROSSES = 40  # per lane; if there are more, ticks are drawn instead
WIDTH, MAX_WIDTH = 1100.0, 8800.0  # pixels; a drawing wider than the page scrolls
MAX_WIDE_BARS = 1500  # with more bars the drawing is not widened, which keeps the file small
_WORK_PX = 4.0  # width that half of the bars should reach, if MAX_WIDTH allows it
_MIN_PX = 0.8  # neighbours closer than this are drawn as one bar,
_SLIVER_PX = 3.0  # which is at most this wide

KINDS = {
    "full": "merged, all steps",
    "drained": "merged, drained early",
    "discarded": "received, not merged",
    "refused": "refused",
    "lost": "lost in a crash",
    "open": "unfinished at the end",
}


@dataclass(frozen=True, kw_only=True)
class DrawnLane:
    """One client's lane in pixels."""

    client: str
    y: float
    height: float
    windows: tuple[Bar, ...]
    work: tuple[Bar, ...]
    crashes: tuple[Dot, ...]


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The whole drawing; `left_out` counts the clients without a lane, beyond MAX_LANES."""

    frame: Frame
    lanes: tuple[DrawnLane, ...]
    merges: tuple[float, ...]
    x_ticks: tuple[Tick, ...]
    kinds: tuple[tuple[str, str], ...]  # (kind, meaning) that occur, for the legend
    crashed: bool
    crowded: bool
    left_out: int

    @property
    def wide(self) -> bool:
        """Whether it is wider than the page."""
        return self.frame.width > WIDTH


def timeline(history: History) -> Timeline | None:
    """The availability timeline, or None for a run without clients or of no duration.

    If rounds of seconds are hours apart, the drawing is wide enough to show them.
    """
    end = max([history.figures.t, *(s.stop for lane in history.lanes.values() for s in lane.bars)])
    if not history.lanes or end <= 0:
        return None
    shown = list(history.lanes.values())
    pitch = 30.0 if len(shown) <= 12 else 22.0 if len(shown) <= 32 else 14.0
    label = min(180.0, 24 + 7.2 * max(len(lane.client) for lane in shown))
    width = label + (WIDTH - label) * _zoom(shown, end, WIDTH - label)
    frame = Frame(width=width, height=8 + pitch * len(shown) + 40, left=label, right=12, top=8)
    x = Scale(0.0, end, frame.left, frame.x1)
    merges = [x(r.t) for r in history.rounds if r.merged]
    present = {span.kind for lane in shown for span in lane.bars}
    return Timeline(
        frame=frame,
        lanes=tuple(_lane(lane, x, frame.top + k * pitch, pitch, history.figures.unit) for k, lane in enumerate(shown)),
        merges=tuple(merges) if len(merges) <= MAX_MERGES else (),
        x_ticks=tuple(Tick(x(v), time_label(v)) for v in time_ticks(0.0, end, round(8 * width / WIDTH))),
        kinds=tuple((kind, meaning) for kind, meaning in KINDS.items() if kind in present),
        crashed=any(lane.crashes for lane in shown),
        crowded=any(len(lane.crashes) > MAX_CROSSES for lane in shown),
        left_out=len(history.figures.clients) - len(shown),
    )


def _zoom(lanes: Sequence[ClientLane], end: float, plot: float) -> float:
    """The width that the run should take, as a multiple (>= 1) of `plot` pixels."""
    lengths = [span.stop - span.start for lane in lanes for span in lane.bars if span.stop > span.start]
    if not 0 < len(lengths) <= MAX_WIDE_BARS:
        return 1.0
    px = plot * statistics.median(lengths) / end
    return min(MAX_WIDTH / WIDTH, max(1.0, _WORK_PX / px))


def _lane(lane: ClientLane, x: Scale, top: float, pitch: float, unit: str) -> DrawnLane:
    height = round(pitch * 0.62, 1)
    y = round(top + (pitch - height) / 2, 1)
    inset = round(height * 0.18, 1)
    windows = [
        WorkBar(
            start=start, stop=stop, kind="up", round=0, steps=0, note=f"{lane.client} up {units.duration(stop - start)}"
        )
        for start, stop in lane.windows
    ]
    work = sorted(lane.bars, key=lambda span: span.start)
    return DrawnLane(
        client=lane.client,
        y=y,
        height=height,
        windows=tuple(bars(windows, x, y, height, unit)),
        work=tuple(bars(work, x, y + inset, height - 2 * inset, unit)),
        crashes=tuple(_crosses(lane, x, y + height / 2)),
    )


def bars(spans: Sequence[WorkBar], x: Scale, y: float, height: float, unit: str = "round") -> list[Bar]:
    """One bar per span, in order of start; narrow bars that would overlap on screen are joined."""
    drawn: list[Bar] = []
    joined: dict[str, float] = {}  # seconds by kind in the last bar
    pieces = 0
    for span in spans:
        left, right = x(span.start), max(x(span.stop), x(span.start) + _MIN_PX)
        last = drawn[-1] if drawn else None
        if last and left < last.x + last.width + _MIN_PX and right - last.x < _SLIVER_PX:
            pieces += 1
            joined[span.kind] = joined.get(span.kind, 0.0) + span.stop - span.start
            kind = max(joined, key=lambda kind: joined[kind])
            label = f"{pieces} pieces, mostly {KINDS.get(kind, kind)}"
            drawn[-1] = Bar(
                x=last.x, y=last.y, width=round(right - last.x, 1), height=last.height, label=label, kind=kind
            )
        else:
            pieces, joined = 1, {span.kind: span.stop - span.start}
            drawn.append(
                Bar(
                    x=left,
                    y=round(y, 1),
                    width=round(right - left, 1),
                    height=round(height, 1),
                    label=_label(span, unit),
                    kind=span.kind,
                )
            )
    return drawn


def _label(span: WorkBar, unit: str) -> str:
    times = f"{units.moment(span.start)} to {units.moment(span.stop)}"
    if span.kind == "up":
        return f"{span.note}\n{times}"
    reason = f" ({span.note})" if span.note else ""
    steps = units.plural(span.steps, "step")
    asked = f"{steps} asked for" if span.kind in ("refused", "lost", "open") else steps
    # Where clients never wait, work may be merged later than in the merge that was next when it was given out.
    where = f"{unit} {span.round}" if unit == "round" else f"given out before {unit} {span.round}"
    return f"{where}: {KINDS[span.kind]}{reason}\n{asked}, {times}"


def _crosses(lane: ClientLane, x: Scale, y: float) -> list[Dot]:
    drawn: list[Dot] = []
    for t in lane.crashes:
        if not drawn or x(t) - drawn[-1].x >= 2:
            drawn.append(Dot(x(t), round(y, 1), f"{lane.client} crashed at {units.moment(t)}"))
    return drawn
