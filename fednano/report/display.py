"""The terminal's live display and closing summary: figures in, rich renderables out. No state, no printing.

Everything fits 80 columns.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fednano.report import units
from fednano.report.energy import compared_with_always_on
from fednano.report.figures import ClientFigures, Figures

COLUMNS = 80
LABEL = 26  # columns of the summary's labels
_BAR = 24  # columns of a client's progress bar, at most
_BLOCKS = "▁▂▃▄▅▆▇█"
_STATES = {
    "training": ("●", "green"),
    "idle": ("○", "cyan"),
    "down": ("–", "dim"),
    "crashed": ("✕", "red"),
}


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


def sparkline(values: Sequence[float], width: int = 20) -> str:
    """The last `width` values as blocks, scaled from the lowest to the highest of them."""
    shown = [v for v in values if units.measured(v)][-width:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((v - low) * scale)] for v in shown)


def live(
    name: str,
    figures: Figures,
    work: Mapping[str, Work],
    stepping: str,
    bpbs: Sequence[float],
    pace: RunPace,
    max_clients: int,
) -> RenderableType:
    """The whole display."""
    told = [Text(line, style="dim") for line in headline(figures)]
    parts: list[RenderableType] = [*told, _progress(figures, pace), _quality(figures, bpbs, pace)]
    if figures.clients or work:
        parts += [Text(""), clients_table(figures, work, stepping, max_clients)]
    title = Text.assemble(("fednano", "bold blue"), "  ", (name, "bold"))
    return Panel(
        Group(*parts),
        title=title,
        title_align="left",
        border_style="bright_black",
        box=box.ROUNDED,
        padding=(0, 1),
    )


def headline(figures: Figures) -> list[str]:
    """What is being run, in two lines; none before the run has started."""
    run = figures.run
    if run is None:
        return []
    size, choices = [f"{units.count(run.parameters)} parameters"], [f"runtime {run.runtime}"]
    if run.clients:
        size.append(units.plural(len(run.clients), "client"))
        choices = [f"strategy {run.strategy}", f"volatility {run.volatility}", *choices]
    return [", ".join([*size, figures.plan]), ", ".join([*choices, f"seed {run.seed}"])]


def _progress(figures: Figures, pace: RunPace) -> Table:
    done, total = figures.progress
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column(no_wrap=True)
    row.add_column(ratio=1)
    for _ in range(3):
        row.add_column(no_wrap=True, justify="right")
    row.add_row(
        Text(ended(figures), style="bold"),
        ProgressBar(total=max(1, total), completed=done, complete_style="blue", finished_style="green"),
        Text.assemble(("elapsed ", "dim"), units.duration(pace.elapsed_s)),
        Text.assemble(("left ", "dim"), units.duration(pace.eta_s) if pace.eta_s is not None else "–"),
        Text.assemble((f"{clock_name(figures)} ", "dim"), units.duration(figures.t)),
    )
    return row


def ended(figures: Figures) -> str:
    """How many rounds have ended, of how many that are planned: "round 3/12", or "merge 3" where none are."""
    planned = f"/{figures.run.rounds}" if figures.run and figures.run.rounds else ""
    return f"{figures.unit} {figures.rounds}{planned}"


def clock_name(figures: Figures) -> str:
    """What the run's clock is called."""
    return "virtual time" if figures.run and figures.run.runtime == "virtual" else "run time"


def _quality(figures: Figures, bpbs: Sequence[float], pace: RunPace) -> Text:
    def pair(label: str, value: str, style: str = "bold") -> list[tuple[str, str]]:
        return [(f"{label} ", "dim"), (value, style), ("   ", "")]

    evaluated, refused = figures.last_eval, figures.sum("refused")
    up, down = figures.sum("bytes_up"), figures.sum("bytes_down")
    quality = [
        *pair("validation bits per byte", f"{evaluated.val_bpb:.3f}" if evaluated else "–", "bold green"),
        *([(sparkline(bpbs, 16), "green"), ("   ", "")] if len(bpbs) > 1 else []),
        *pair("training loss", units.fixed(figures.train_loss) if figures.train_loss is not None else "–"),
    ]
    amounts = [
        *pair("tokens", units.count(figures.tokens)),
        *pair("tokens/s", units.count(pace.tokens_per_s) if pace.tokens_per_s else "–"),
        *(pair("from clients", units.size(up)) + pair("to clients", units.size(down)) if figures.clients else []),
    ]
    trouble = [
        *(pair("updates refused", f"{refused}", "yellow") if refused else []),
        *(pair(f"{figures.unit}s skipped", f"{figures.skipped}", "yellow") if figures.skipped else []),
    ]
    return Text.assemble(*quality, "\n", *amounts, *([("\n", ""), *trouble] if trouble else []))


def clients_table(figures: Figures, work: Mapping[str, Work], stepping: str, max_clients: int) -> RenderableType:
    """One row per client; clients beyond `max_clients` are only counted."""
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim", show_edge=False)
    table.add_column("client", no_wrap=True)
    table.add_column("state", no_wrap=True, min_width=10)
    table.add_column("local steps", max_width=_BAR)
    for column in ("", "loss", "rows", "tokens", "share"):
        table.add_column(column, justify="right", no_wrap=True)
    names = list(dict.fromkeys([*figures.clients, *work]))
    for name in names[:max_clients]:
        client = figures.clients.get(name)
        table.add_row(*_client_row(name, client, work.get(name), name == stepping, figures.tokens))
    rest = names[max_clients:]
    if not rest:
        return table
    states = [figures.clients[name].state for name in rest if name in figures.clients]
    counts = ", ".join(f"{states.count(state)} {state}" for state in _STATES if state in states)
    return Group(table, Text(f"and {len(rest)} more: {counts}", style="dim"))


def _client_row(
    name: str, client: ClientFigures | None, work: Work | None, stepping: bool, total: int
) -> list[RenderableType]:
    # A runtime without clients (centralized) reports its steps under its own name.
    state = client.state if client else "training"
    mark, style = _STATES[state]
    tokens = client.tokens if client else total
    bar: RenderableType = Text("")
    if work:
        colour = "blue" if state == "training" else "bright_black"
        bar = ProgressBar(total=work.steps, completed=work.step, complete_style=colour, finished_style=colour)
    return [
        Text(name, style="bold" if stepping else ""),
        Text(f"{mark} {state}", style=style),
        bar,
        Text(f"{work.step}/{work.steps}" if work else "–"),
        Text(f"{work.loss:.3f}" if work and work.loss is not None else "–"),
        Text(units.whole(client.rows) if client else "–"),
        Text(units.count(tokens)),
        Text(f"{100 * tokens / total:.0f} %" if total else "–"),
    ]


def summary_text(summary: Mapping[str, Any], unit: str = "round") -> Text:
    """The result of a run, one figure a line; figures that were not measured are left out."""
    text = Text()
    for label, value in summary_lines(summary, unit):
        tone = {"completed": "bold green", "failed": "bold red"}.get(value, "bold yellow")
        first, *others = textwrap.wrap(value, COLUMNS - LABEL) or [""]
        text.append(f"{label:<{LABEL - 2}}  " if value else label, "dim")
        text.append(first, tone if label == "status" else "").append("\n")
        text.append("".join(f"{'':{LABEL}}{line}\n" for line in others))
    return text


DIVERGED = "not finite: the model has diverged"


def summary_lines(summary: Mapping[str, Any], unit: str = "round") -> list[tuple[str, str]]:
    """(label, text) of every figure that was measured; a round is called `unit`."""
    rows, moved = summary.get("rows") or {}, summary.get("bytes") or {}
    sent = {"from": moved.get("up"), "to": moved.get("down")}
    goodput = units.percent(summary.get("goodput"))
    lines = [
        ("status", str(summary.get("status") or "unknown")),
        ("why it failed", str(summary.get("error") or units.NOT_MEASURED)),
        ("why it ended", units.ending(summary.get("ended_by"), unit)),
        ("model parameters", units.whole(summary.get("parameters"))),
        ("validation bits per byte", _initial_to_final(summary.get("val_bpb_initial"), summary.get("val_bpb"))),
        ("training loss", _with(units.fixed(summary.get("train_loss")), "nats per token")),
        (f"{unit}s", units.whole(summary.get("rounds"))),
        ("tokens trained", units.whole(summary.get("tokens"))),
        ("tokens per second", units.count(summary.get("tokens_per_s"))),
        ("privacy", units.privacy(summary)),
        ("goodput", _with(goodput, "of the tokens that clients had time for")),
        ("rows of training data", _dealt(rows)),
        ("rows lost", units.whole(rows.get("lost"))),
        ("rows trained twice", units.whole(rows.get("doubled"))),
        (
            "data sent",
            ", ".join(f"{units.size(n)} {way} clients" for way, n in sent.items() if n is not None)
            or units.NOT_MEASURED,
        ),
        ("energy used", units.energy(summary.get("energy_kwh"))),
        ("CO2 emitted", units.mass(summary.get("co2_g"))),
        *_compared(summary),
        ("elapsed time", units.duration(summary.get("wall_s"))),
        ("virtual time", units.duration(summary.get("virtual_s"))),
    ]
    return [(label, text) for label, text in lines if text != units.NOT_MEASURED]


def _with(figure: str, words: str) -> str:
    return figure if figure == units.NOT_MEASURED else f"{figure} {words}"


def _dealt(rows: Mapping[str, int | None]) -> str:
    """The ledger's rows by what became of them; a long one may be trained in part."""
    partly, free = rows.get("partly") or 0, rows.get("free")
    parted = {
        **rows,
        "partly": partly or None,
        "free": None if free is None else free - partly,
    }
    words = {
        "done": "trained whole" if partly else "trained",
        "partly": "in part",
        "leased": "leased to clients",
        "free": "left",
    }
    parts = ", ".join(f"{parted[key]:,} {word}" for key, word in words.items() if parted.get(key) is not None)
    total = units.whole(rows.get("total"))
    return f"{total}: {parts}" if parts else total


def _compared(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    sites = compared_with_always_on(summary)
    return (
        [("CO2 compared with each site always on:", ""), *((f"  {site}", text) for site, text in sites)]
        if sites
        else []
    )


def _initial_to_final(initial: float | None, final: float | None) -> str:
    if initial is not None and final is None:
        return DIVERGED
    if initial is None or final is None:
        return units.fixed(final)
    return f"{units.fixed(initial)} → {units.fixed(final)} ({units.signed_percent(initial, final)}; lower is better)"
