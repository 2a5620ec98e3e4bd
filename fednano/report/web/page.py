"""The words and figures of each part of the report, from a run's history and summary."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fednano.report import units
from fednano.report.history import History, RoundBar
from fednano.report.web import svg
from fednano.report.web.svg import Chart, Frame

SHORT = Frame(width=540, height=190)
BPB = "Validation bits per byte"


@dataclass(frozen=True)
class Tile:
    """A headline figure; `tone` is "", "good" or "bad"."""

    label: str
    value: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Row:
    """One client in the table, ready to print; `bar` in [0, 1] is its share relative to the largest."""

    name: str
    cells: tuple[str, ...]
    share: str
    bar: float


def unfinished(history: History) -> dict[str, Any]:
    """The summary of a run that has written none (it still runs, or was killed), from its events."""
    figures = history.figures
    return {
        "status": figures.end.status if figures.end else "unfinished",
        "parameters": figures.run.parameters if figures.run else None,
        "tokens": figures.tokens,
        "val_bpb_initial": figures.first_eval.val_bpb if figures.first_eval else None,
        "val_bpb": figures.last_eval.val_bpb if figures.last_eval else None,
        "train_loss": figures.train_loss,
        "rounds": figures.merged,
        "inner_steps": figures.steps,
        "virtual_s": figures.t if figures.run and figures.run.runtime == "virtual" else None,
        "bytes": {"up": figures.sum("bytes_up"), "down": figures.sum("bytes_down")},
    }


def experiment_name(folder: Path, config: str) -> str:
    """The configuration's top-level `name`, or else the name of the folder that holds the run folder."""
    named = re.search(r"^name:(.*)$", config, re.MULTILINE)
    name = named[1].strip().strip("'\"") if named else ""
    return name if name and name != "null" else folder.resolve().parent.name


def origin_facts(origin: dict[str, Any]) -> list[tuple[str, str]]:
    """When, where and from which commit the run began, and when it was resumed."""
    started, resumed, commit = origin.get("started") or {}, origin.get("resumed") or (), origin.get("commit")
    found = [("started", started.get("at")), ("host", started.get("host"))]
    found += [("resumed", f"{again.get('at')} on {again.get('host')}") for again in resumed]
    changed = "files changed since " if str(commit).endswith("+") else ""
    found.append(("commit", f"{changed}{str(commit).rstrip('+')}" if commit else None))
    return [(name, value) for name, value in found if value]


def clock_name(history: History) -> str:
    """What the time axis is called."""
    return "virtual time" if history.figures.run and history.figures.run.runtime == "virtual" else "run time"


def subtitle(history: History, summary: dict[str, Any]) -> list[str]:
    """What was run, in a few phrases."""
    run = history.figures.run
    if run is None:
        return []
    clients = [units.plural(len(run.clients), "client"), f"volatility {run.volatility}"] if run.clients else []
    return [
        *([f"strategy {run.strategy}"] if run.clients else []),
        f"runtime {run.runtime}",
        *clients,
        f"{units.count(run.parameters)} parameters",
        history.figures.plan,
        *([units.ending(summary["ended_by"], history.figures.unit)] if summary.get("ended_by") else []),
    ]


def notices(history: History, summary: dict[str, Any]) -> list[str]:
    """Warnings that a reader needs before trusting the page."""
    found = []
    if history.torn:
        found.append("The last line of events.jsonl is torn (the run was killed while writing it) and is ignored.")
    digest = summary.get("tape_sha256")
    if digest and digest != history.tape_sha256:
        found.append(f"events.jsonl does not match tape_sha256 in summary.json: its digest is {history.tape_sha256}.")
    tokens = summary.get("tokens")
    if tokens is not None and tokens != history.figures.tokens:
        found.append(f"The summary says {tokens:,} tokens, but the events add up to {history.figures.tokens:,}.")
    violations = (summary.get("audit") or {}).get("violations")
    if violations:
        shown = units.plural(violations, "time")
        found.append(
            f"Rows were lost or trained twice: the event log shows it {shown}. "
            "python -m fednano.report --audit RUN_FOLDER lists where."
        )
    if has_diverged(summary):
        found.append("The model has diverged: its last validation loss is not finite.")
    if summary.get("status") in ("interrupted", "failed", "unfinished"):
        ended = units.plural(history.figures.rounds, history.figures.unit)
        found.append(f"The run is {summary['status']}: the figures cover the {ended} that ended.")
    return found


def tiles(history: History, summary: dict[str, Any]) -> list[Tile]:
    """The headline figures."""
    moved = summary.get("bytes") or {}
    rows = summary.get("rows") or {}
    lost, doubled = rows.get("lost"), rows.get("doubled")
    audited = lost is not None and doubled is not None
    tokens_per_s, run = summary.get("tokens_per_s"), history.figures.run
    planned = f"of {units.count(run.tokens_planned)} planned" if run else ""
    speed = f"{units.count(tokens_per_s)} tokens/s" if units.measured(tokens_per_s) else ""
    found = [
        _bpb_tile(summary),
        Tile("Tokens trained", units.count(summary.get("tokens")), planned),
        Tile("Training loss", units.fixed(summary.get("train_loss")), f"nats per token, last {history.figures.unit}"),
        Tile("Goodput", units.percent(summary.get("goodput")), "of the tokens clients had time for"),
        Tile("Elapsed time", units.duration(summary.get("wall_s")), speed),
        Tile(
            "Virtual time",
            units.duration(summary.get("virtual_s")),
            units.plural(history.figures.rounds, history.figures.unit),
        ),
        Tile("Sent by clients", units.size(moved.get("up")), f"{units.size(moved.get('down'))} sent to clients"),
        Tile(
            "Rows lost / trained twice",
            f"{lost:,} / {doubled:,}" if audited else units.NOT_MEASURED,
            "each row trained once or not yet" if audited and not lost and not doubled else "",
            ("bad" if lost or doubled else "good") if audited else "",
        ),
    ]
    if (spent := units.privacy(summary)) != units.NOT_MEASURED:
        found.append(Tile("Privacy", *spent.split(", ")))
    if summary.get("energy_kwh") is not None:
        inside = (summary.get("energy") or {}).get("total", {}).get("share_in_windows")
        note = f"{units.percent(inside)} inside the sites' windows" if inside is not None else ""
        found.append(Tile("Energy used", units.energy(summary["energy_kwh"]), note))
    if summary.get("co2_g") is not None:
        found.append(Tile("CO₂ emitted", units.mass(summary["co2_g"]), "training and idling, all sites"))
    return found


def has_diverged(summary: Mapping[str, Any]) -> bool:
    """Whether the last validation was of a model that is not finite: a summary has null for it, events have NaN."""
    return units.measured(summary.get("val_bpb_initial")) and not units.measured(summary.get("val_bpb"))


def _bpb_tile(summary: dict[str, Any]) -> Tile:
    first, last = summary.get("val_bpb_initial"), summary.get("val_bpb")
    if has_diverged(summary):
        return Tile(BPB, units.DIVERGED, "the last loss is not finite", "bad")
    if first is None or last is None or not units.measured(first):
        return Tile(BPB, units.fixed(last))
    change = units.signed_percent(first, last)
    return Tile(BPB, units.fixed(last), f"from {units.fixed(first)} ({change}); lower is better")


def is_analytic(config: str) -> bool:
    """Whether a recorded configuration runs the protocol without training."""
    return re.search(r"^  compute: analytic$", config, re.MULTILINE) is not None


def rounds_charts(rounds: Sequence[RoundBar], called: str) -> list[tuple[str, Chart | None]]:
    """Tokens and updates per round, which is `called` so; skipped rounds are marked."""

    def hover(unit: str) -> Callable[[int, int, float], str]:
        def label(first: int, last: int, mean: float) -> str:
            if first == last:
                return f"{called} {first}: {mean:,.0f} {unit}"
            return f"{called}s {first} to {last}: {mean:,.1f} {unit} each"

        return label

    def chart(values: list[tuple[int, float, str]], unit: str) -> Chart | None:
        return svg.bars(values, SHORT, called, hover(unit), mark="skipped")

    kinds = ["" if r.merged else "skipped" for r in rounds]
    updates = [(r.round, float(r.updates), kind) for r, kind in zip(rounds, kinds, strict=True)]
    tokens = [(r.round, float(r.tokens), kind) for r, kind in zip(rounds, kinds, strict=True)]
    drawn = [(f"Tokens per {called}", chart(tokens, "tokens"))]
    if not rounds or any(r.updates for r in rounds):  # a run without clients has none
        drawn.append((f"Updates per {called}", chart(updates, "updates")))
    return drawn


COLUMNS = (
    *("up", "busy", "updates", "steps", "rows", "tokens", "weight"),
    *("drains", "crashes", "refused", "sent", "received"),
)


def client_rows(history: History) -> list[Row]:
    """The table, one row per client; updates, steps, rows and tokens count merged work only."""
    figures = history.figures
    total = figures.sum("tokens")
    most = max([client.tokens for client in figures.clients.values()], default=0)
    found = []
    for client in figures.clients.values():
        up = client.up_seconds(figures.t)
        cells = (
            units.percent(up / figures.t) if figures.t else "–",
            units.percent(client.busy_s / up) if up else "–",
            *(units.whole(v) for v in (client.updates, client.steps, client.rows, client.tokens)),
            units.percent(history.updates.share(client.name)) if len(history.updates.merges) else "–",
            *(units.whole(v) for v in (client.drains, client.crashes, client.refused)),
            units.size(client.bytes_up),
            units.size(client.bytes_down),
        )
        share = client.tokens / total if total else 0.0
        found.append(Row(client.name, cells, units.percent(share), client.tokens / most if most else 0.0))
    return found


def total_row(history: History) -> Row:
    """The table's last row, the sums over all clients."""
    figures = history.figures
    up = sum(client.up_seconds(figures.t) for client in figures.clients.values())
    possible = figures.t * len(figures.clients)
    busy = sum(client.busy_s for client in figures.clients.values())
    work, exits = ("updates", "steps", "rows", "tokens"), ("drains", "crashes", "refused")
    cells = (
        units.percent(up / possible) if possible else "–",
        units.percent(busy / up) if up else "–",
        *(units.whole(figures.sum(name)) for name in work),
        "",
        *(units.whole(figures.sum(name)) for name in exits),
        units.size(figures.sum("bytes_up")),
        units.size(figures.sum("bytes_down")),
    )
    return Row("all clients", cells, "", 0.0)


LEDGER = {
    "done": "trained",
    "leased": "leased to clients",
    "free": "not yet trained whole",
    "partly": "of these, trained in part",
    "lost": "lost",
    "doubled": "trained twice",
    "total": "total",
}  # the words for its counts


def ledger(rows: dict[str, int | None] | None) -> list[tuple[str, str, float, str]]:
    """The data ledger as (name, rows, share of the total, tone); empty when not measured."""
    if not rows or not rows.get("total"):
        return []
    total = rows["total"] or 1
    found = [
        (name, units.whole(rows.get(name)), (rows.get(name) or 0) / total, "") for name in ("done", "leased", "free")
    ]
    if rows.get("partly"):
        found.append(("partly", units.whole(rows["partly"]), 0.0, ""))
    for name in ("lost", "doubled"):
        tone = "" if rows.get(name) is None else "bad" if rows[name] else "good"
        found.append((name, units.whole(rows.get(name)), 0.0, tone))
    return [*found, ("total", units.whole(total), 1.0, "")]
