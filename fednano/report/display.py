"""What the terminal shows while a run goes on: figures in, rich renderables out. No state, no printing."""

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
from fednano.report.energy import share_of_always_on
from fednano.report.figures import ClientFigures, Figures

_BLOCKS = "▁▂▃▄▅▆▇█"
_STATES = {
    "training": ("●", "green"),
    "idle": ("○", "cyan"),
    "down": ("–", "dim"),
    "crashed": ("✕", "red"),
}


@dataclass(frozen=True)
class Work:
    """The last inner step known of a client; `loss` in nats per token, None before its first step."""

    step: int
    steps: int
    loss: float | None


@dataclass(frozen=True)
class RunPace:
    """Wall-clock figures: seconds since the start and to the end, tokens trained per second."""

    elapsed_s: float
    eta_s: float | None
    tokens_per_s: float | None


def sparkline(values: Sequence[float], width: int = 20) -> str:
    """The last `width` values as blocks, scaled between their own extremes."""
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
    run = figures.run
    parts: list[RenderableType] = [_progress(figures, pace), _quality(figures, bpbs, pace)]
    if figures.clients or work:
        parts += [Text(""), clients_table(figures, work, stepping, max_clients)]
    title = Text.assemble(("fednano", "bold blue"), "  ", (name, "bold"))
    return Panel(
        Group(*parts),
        title=title,
        title_align="left",
        subtitle=Text(headline(figures), style="dim") if run else None,
        subtitle_align="left",
        border_style="bright_black",
        box=box.ROUNDED,
        padding=(0, 1),
    )


def headline(figures: Figures) -> str:
    """What is being run, in a line."""
    run = figures.run
    if run is None:
        return ""
    parts = [run.strategy, *([run.runtime] if run.runtime != run.strategy else [])]
    if run.clients:
        parts += [units.plural(len(run.clients), "client"), run.volatility, f"H = {run.local_steps}"]
    return " · ".join([*parts, f"{units.count(run.parameters)} parameters", f"seed {run.seed}"])


def _progress(figures: Figures, pace: RunPace) -> Table:
    done, total = figures.progress
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column(no_wrap=True)
    row.add_column(ratio=1)
    for _ in range(3):
        row.add_column(no_wrap=True, justify="right")
    row.add_row(
        Text.assemble("round ", (f"{figures.rounds}", "bold"), of_rounds(figures)),
        ProgressBar(total=max(1, total), completed=done, complete_style="blue", finished_style="green"),
        Text.assemble(("elapsed ", "dim"), units.duration(pace.elapsed_s)),
        Text.assemble(("eta ", "dim"), units.duration(pace.eta_s) if pace.eta_s is not None else "–"),
        Text.assemble((f"{clock_name(figures)} ", "dim"), units.duration(figures.t)),
    )
    return row


def of_rounds(figures: Figures) -> str:
    """How many rounds there are in all, where that is known, to stand behind those that are done."""
    return f"/{figures.run.rounds}" if figures.run and figures.run.rounds else ""


def clock_name(figures: Figures) -> str:
    """What the run's clock is called."""
    return "virtual" if figures.run and figures.run.runtime == "virtual" else "clock"


def _quality(figures: Figures, bpbs: Sequence[float], pace: RunPace) -> Text:
    def pair(label: str, value: str, style: str = "bold") -> list[tuple[str, str]]:
        return [(f"{label} ", "dim"), (value, style), ("   ", "")]

    evaluated, refused = figures.last_eval, figures.sum("refused")
    up, down = figures.sum("bytes_up"), figures.sum("bytes_down")
    quality = [
        *pair("val bpb", f"{evaluated.val_bpb:.3f}" if evaluated else "–", "bold green"),
        *([(sparkline(bpbs), "green"), ("   ", "")] if len(bpbs) > 1 else []),
        *pair("train loss", units.fixed(figures.train_loss) if figures.train_loss is not None else "–"),
    ]
    amounts = [
        *pair("tokens", units.count(figures.tokens)),
        *pair("tokens/s", units.count(pace.tokens_per_s) if pace.tokens_per_s else "–"),
        *(pair("up", units.size(up)) + pair("down", units.size(down)) if figures.clients else []),
        *(pair("refused", f"{refused}", "yellow") if refused else []),
        *(pair("skipped", f"{figures.skipped}", "yellow") if figures.skipped else []),
    ]
    return Text.assemble(*quality, "\n", *amounts)


def clients_table(figures: Figures, work: Mapping[str, Work], stepping: str, max_clients: int) -> RenderableType:
    """One row per client; beyond `max_clients`, a count of the rest."""
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim", show_edge=False)
    table.add_column("client", no_wrap=True)
    table.add_column("state", no_wrap=True, min_width=10)
    table.add_column("last work", width=24)
    for column in ("step", "loss", "rows", "tokens", "share"):
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
    # A runtime without clients (centralized) reports its steps under a name of its own.
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


def summary_text(summary: Mapping[str, Any]) -> Text:
    """What came out, a line each; figures that were not measured are left out."""
    text = Text()
    for label, value in summary_lines(summary):
        tone = {"completed": "bold green", "failed": "bold red"}.get(value, "bold yellow")
        text.append(f"{label:<16}", "dim").append(value, tone if label == "status" else "").append("\n")
    return text


def summary_lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(label, text) of every figure that was measured."""
    rows, moved = summary.get("rows") or {}, summary.get("bytes") or {}
    wall, virtual = summary.get("wall_s"), summary.get("virtual_s")
    lines = [
        ("status", str(summary.get("status") or "unknown")),
        ("ended by", units.ending(summary.get("ended_by"))),
        ("parameters", units.whole(summary.get("parameters"))),
        ("validation bpb", _initial_to_final(summary.get("val_bpb_initial"), summary.get("val_bpb"))),
        ("train loss", units.fixed(summary.get("train_loss"))),
        ("rounds", units.whole(summary.get("rounds"))),
        ("tokens", units.whole(summary.get("tokens"))),
        ("tokens/s", units.count(summary.get("tokens_per_s"))),
        ("goodput", units.percent(summary.get("goodput"))),
        (
            "rows",
            ", ".join(f"{n:,} {what}" for what, n in rows.items() if n is not None) or units.NOT_MEASURED,
        ),
        (
            "bytes",
            ", ".join(f"{units.size(n)} {way}" for way, n in moved.items() if n is not None) or units.NOT_MEASURED,
        ),
        ("energy", units.energy(summary.get("energy_kwh"))),
        ("carbon", units.mass(summary.get("co2_g"))),
        ("always on", share_of_always_on(summary) or units.NOT_MEASURED),
        ("wall time", units.duration(wall)),
        ("virtual time", units.duration(virtual)),
    ]
    return [(label, text) for label, text in lines if text != units.NOT_MEASURED]


def _initial_to_final(initial: float | None, final: float | None) -> str:
    if initial is None or final is None:
        return units.fixed(final)  # null although begun: it diverged
    return f"{units.fixed(initial)} → {units.fixed(final)} ({units.signed_percent(initial, final)})"
