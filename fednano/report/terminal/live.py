"""The terminal's live display: figures in, rich renderables out. No state, no printing.

It takes the width and the height that it is given: on a narrow terminal columns are left out, on a low one rows.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fednano.report import units
from fednano.report.figures import ClientFigures, Figures
from fednano.report.terminal.display import clock_name, ended, headline
from fednano.report.terminal.glyphs import Glyphs
from fednano.report.terminal.strips import Strips

FRAME = 4  # columns of the frame around the display
GAP = 2  # columns between those of the table
NAME = 18  # columns of a client's name, at most
STATE = 10  # columns of a client's state
STRIP = 24  # columns that a strip keeps before figures take their place
LEAST_STRIP = 8
LEAST = 7  # lines of the frame, the bar, the heads of the columns, a client, the count of the rest, and the cursor
LOW = 16  # a terminal of fewer lines shows no legend and not what is being run
SPARK = 16
STYLES = {"training": "green", "sending": "blue", "moving": "blue", "idle": "cyan", "down": "dim", "crashed": "red"}
# The figures of a client with the columns of each, most important first.
FIGURES = {"steps": 7, "loss": 6, "sent": 7, "share": 5, "tokens": 6, "rows": 6}
LEGEND = {"training": "training", "moving": "sending, receiving", "idle": "idle", "down": "down", "crashed": "crash"}

Pieces = tuple[tuple[str, str], ...]  # pieces of text that stay on one line, with their styles


@dataclass(frozen=True)
class Work:
    """A client's latest inner step; `loss` in nats per token, None before its first step."""

    step: int
    steps: int
    loss: float | None


@dataclass(frozen=True)
class RunPace:
    """Wall-clock figures: seconds since the start, seconds left, tokens trained per second."""

    elapsed_s: float
    eta_s: float | None
    tokens_per_s: float | None


@dataclass(kw_only=True)
class Shown:
    """What the display shows, kept up to date by its console.

    `energy` is the run's consumption so far, under its names in `summary.json`; `stepping` the client
    that took the latest step.
    """

    name: str
    figures: Figures = field(default_factory=Figures)
    strips: Strips = field(default_factory=Strips)
    work: dict[str, Work] = field(default_factory=dict)
    stepping: str = ""
    bpbs: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    energy: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Room:
    """The terminal: its columns, its lines, and the signs that it can print."""

    width: int
    height: int
    glyphs: Glyphs


def live(run: Shown, pace: RunPace, room: Room) -> RenderableType:
    """The whole display, in at most as many lines as the terminal has."""
    inner, low = room.width - FRAME, room.height < LOW
    told = [] if low else [line for told in headline(run.figures) for line in textwrap.wrap(told, inner)]
    begun = [*(_said(line, inner, "dim", room) for line in told), *_flowed(_progress(run.figures, pace), inner, room)]
    amounts = _flowed(_amounts(run, pace, room), inner, room)
    amounts = amounts[: max(1, room.height - len(begun) - LEAST)]
    parts: list[RenderableType] = [*begun, _bar(run.figures, inner), *amounts]
    if run.figures.clients or run.work:
        legend = _legend(inner, room) if run.figures.clients and not low else []
        # Besides the clients: the frame, the heads of the columns, the count of the rest, and the cursor's own line.
        left = room.height - len(parts) - len(legend) - (5 if low else 6)
        parts += [*([] if low else [Text("")]), *clients_table(run, room, max(1, left)), *legend]
    name = room.glyphs.fitted(room.glyphs.said(run.name), max(1, inner - 14))
    return Panel(
        Group(*parts),
        title=Text.assemble(("fednano", "bold blue"), "  ", (name, "bold")),
        title_align="left",
        border_style="bright_black",
        box=box.ROUNDED,
        padding=(0, 1),
        width=room.width,
    )


def _said(line: str, width: int, style: str, room: Room) -> Text:
    return Text(room.glyphs.fitted(room.glyphs.said(line), width), style=style)


def _bar(figures: Figures, width: int) -> RenderableType:
    done, total = figures.progress
    line = Table.grid()  # which ends the line, as a bar by itself does not
    line.add_column(width=width)
    line.add_row(ProgressBar(total=max(1, total), completed=done, complete_style="blue", finished_style="green"))
    return line


def _item(label: str, value: str, style: str = "bold", spark: str = "") -> Pieces:
    return ((f"{label} ", "dim"), (value, style), *(((f" {spark}", style.removeprefix("bold ")),) if spark else ()))


def _progress(figures: Figures, pace: RunPace) -> list[Pieces]:
    return [
        ((ended(figures), "bold"),),
        _item("elapsed", units.duration(pace.elapsed_s), ""),
        _item("left", units.duration(pace.eta_s) if pace.eta_s is not None else "–", ""),
        _item(clock_name(figures), units.duration(figures.t), ""),
    ]


def _amounts(run: Shown, pace: RunPace, room: Room) -> list[Pieces]:
    figures, glyphs = run.figures, room.glyphs
    refused, goodput = figures.sum("refused"), figures.goodput()
    bpbs, losses = (glyphs.sparkline(of, SPARK) if len(of) > 1 else "" for of in (run.bpbs, run.losses))
    loss = units.fixed(figures.train_loss) if figures.train_loss is not None else "–"
    kwh, grams = run.energy.get("energy_kwh"), run.energy.get("co2_g")
    return [
        _item("validation bits per byte", figures.bpb, "bold red" if figures.diverged else "bold green", bpbs),
        _item("training loss", loss, "bold", losses),
        _item("tokens", units.count(figures.tokens)),
        _item("tokens/s", units.count(pace.tokens_per_s) if pace.tokens_per_s else "–"),
        *([_item("goodput", units.percent(goodput))] if goodput is not None else []),
        *([_item("from clients", units.size(figures.sum("bytes_up")))] if figures.clients else []),
        *([_item("to clients", units.size(figures.sum("bytes_down")))] if figures.clients else []),
        *([_item("energy", units.energy(kwh))] if kwh is not None else []),
        *([_item("CO₂", units.mass(grams))] if grams is not None else []),
        *([_item("updates refused", f"{refused}", "yellow")] if refused else []),
        *([_item(f"{figures.unit}s skipped", f"{figures.skipped}", "yellow")] if figures.skipped else []),
    ]


def _flowed(items: Sequence[Pieces], width: int, room: Room) -> list[Text]:
    """The items in lines of at most `width` columns, three blanks apart; only an item longer than a line is cut."""
    lines: list[Text] = []
    for item in items:
        text = Text.assemble(*((room.glyphs.said(piece), style) for piece, style in item))
        text.truncate(width)
        if lines and lines[-1].cell_len + 3 + text.cell_len <= width:
            lines[-1].append("   ").append_text(text)
        else:
            lines.append(text)
    return lines


def clients_table(run: Shown, room: Room, rows: int) -> list[RenderableType]:
    """One line per client under the heads of the columns; the clients beyond `rows` are only counted."""
    names = list(dict.fromkeys([*run.figures.clients, *run.work]))
    shown, rest = names[:rows], names[rows:]
    glyphs = room.glyphs
    called = max([6, *(min(NAME, cell_len(glyphs.said(name))) for name in shown)])
    strip, columns = _columns(room.width - FRAME - called - GAP - STATE - GAP)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim", show_edge=False)
    table.add_column("client", width=called, no_wrap=True)
    table.add_column("now", width=STATE, no_wrap=True)
    if strip:
        lately = units.duration(run.strips.now - run.strips.since) if run.figures.clients else ""
        table.add_column(glyphs.fitted(f"last {lately}" if lately else "", strip), width=strip, no_wrap=True)
    for name, width in columns.items():
        table.add_column(name, width=width, justify="right", no_wrap=True)
    for name in shown:
        called_, state, drawn, figures = _client(run, name, called, strip, room)
        table.add_row(called_, state, *([drawn] if strip else []), *(glyphs.said(figures[key]) for key in columns))
    if not rest:
        return [table]
    states = [run.figures.clients[name].state for name in rest if name in run.figures.clients]
    counts = ", ".join(f"{states.count(state)} {state}" for state in STYLES if state in states)
    return [table, _said(f"and {len(rest)} more: {counts}", room.width - FRAME, "dim", room)]


def _columns(width: int) -> tuple[int, dict[str, int]]:
    """The strip's columns, and those of each figure that has room beside it, in so many columns."""
    chosen: dict[str, int] = {}
    for name, needed in FIGURES.items():
        least = LEAST_STRIP if len(chosen) < 2 else STRIP
        if sum(chosen.values()) + GAP * (len(chosen) + 2) + needed + least > width + GAP:
            break
        chosen[name] = needed
    strip = width - sum(chosen.values()) - GAP * len(chosen)
    return (strip if strip >= LEAST_STRIP else 0), chosen


def _client(run: Shown, name: str, called: int, strip: int, room: Room) -> tuple[Text, Text, Any, dict[str, str]]:
    client, work, glyphs = run.figures.clients.get(name), run.work.get(name), room.glyphs
    state = _state(client, work)
    tokens, total = client.tokens if client else run.figures.tokens, run.figures.tokens
    drawn: RenderableType = Text("")
    if client:
        drawn = _strip(run.strips.cells(name, strip), glyphs)
    elif work:
        drawn = ProgressBar(total=work.steps, completed=work.step, complete_style="blue", finished_style="blue")
    figures = {
        "steps": f"{work.step}/{work.steps}" if work else "–",
        "loss": f"{work.loss:.3f}" if work and work.loss is not None else "–",
        "sent": units.size(client.bytes_up) if client else "–",
        "share": f"{100 * tokens / total:.0f} %" if total else "–",
        "tokens": units.count(tokens),
        "rows": units.whole(client.rows) if client else "–",
    }
    shown = Text(glyphs.fitted(glyphs.said(name), called), style="bold" if name == run.stepping else "")
    return shown, Text(f"{glyphs.marks[state]} {state}", style=STYLES[state]), drawn, figures


def _state(client: ClientFigures | None, work: Work | None) -> str:
    """What a client does now; one that has taken all of its steps is sending its update."""
    if client is None:
        return "training"  # a runtime without clients (centralized) reports its steps under its own name
    done = work is not None and 0 < work.steps <= work.step
    return "sending" if client.state == "training" and done else client.state


def _strip(cells: Sequence[str], glyphs: Glyphs) -> Text:
    runs = ((state, len(list(same))) for state, same in groupby(cells))
    return Text.assemble(*((glyphs.cells[state] * n, STYLES[state]) for state, n in runs))


def _legend(width: int, room: Room) -> list[Text]:
    signs = room.glyphs.cells
    return _flowed([((signs[key], STYLES[key]), (f" {word}", "dim")) for key, word in LEGEND.items()], width, room)
