"""The terminal's closing summary, and the words that it shares with the live display. No state, no printing."""

import textwrap
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from fednano.report import units
from fednano.report.energy import compared_with_always_on
from fednano.report.figures import Figures
from fednano.report.terminal.glyphs import UNICODE, Glyphs

COLUMNS = 80
LABEL = 26  # columns of the summary's labels


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


def ended(figures: Figures) -> str:
    """How many rounds have ended, of how many that are planned: "round 3/12", or "merge 3" where none are."""
    planned = f"/{figures.run.rounds}" if figures.run and figures.run.rounds else ""
    return f"{figures.unit} {figures.rounds}{planned}"


def clock_name(figures: Figures) -> str:
    """What the run's clock is called."""
    return "virtual time" if figures.run and figures.run.runtime == "virtual" else "run time"


def summary_text(
    summary: Mapping[str, Any], unit: str = "round", width: int = COLUMNS, glyphs: Glyphs = UNICODE
) -> Text:
    """The result of a run, one figure a line; figures that were not measured are left out."""
    text = Text()
    for label, value in summary_lines(summary, unit):
        tone = {"completed": "bold green", "failed": "bold red"}.get(value, "bold yellow")
        first, *others = textwrap.wrap(glyphs.said(value), max(LABEL, width - LABEL)) or [""]
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
        ("tokens trained", _trained(summary)),
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


def _trained(summary: Mapping[str, Any]) -> str:
    tokens = summary.get("tokens")
    as_it_began = tokens == 0 and summary.get("status") == "completed" and summary.get("val_bpb") is not None
    return "none: no update was merged, and the model is as it began" if as_it_began else units.whole(tokens)


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
        [
            ("CO2 relative to each site training alone and always on:", ""),
            *((f"  {site}", text) for site, text in sites),
        ]
        if sites
        else []
    )


def _initial_to_final(initial: float | None, final: float | None) -> str:
    if units.measured(initial) and not units.measured(final):
        return DIVERGED
    if initial is None or final is None:
        return units.fixed(final)
    return f"{units.fixed(initial)} → {units.fixed(final)} ({units.signed_percent(initial, final)}; lower is better)"
