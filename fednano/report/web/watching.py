"""The pages of runs that are watched: what they say of each run now, as fragments that replace those shown before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fednano.report import units
from fednano.report.comparison.apart import telling, word
from fednano.report.following import FollowedRun
from fednano.report.history import History
from fednano.report.web import page, quality, svg
from fednano.report.web.page import Tile
from fednano.report.web.roundmap import round_map
from fednano.report.web.svg import Chart, Frame
from fednano.report.web.templating import template
from fednano.report.web.timeline import timeline

SMALL = Frame(width=300, height=64, left=2, right=6, top=6, bottom=6)
MARKS = {"running": "▶", "waiting": "…", "completed": "✓", "failed": "✕", "interrupted": "❚❚", "unfinished": "?"}
STATES = {"training": "●", "idle": "○", "down": "–", "crashed": "✕"}
MOST_KEYS = 6  # that a card tells of
SAID = {
    "unfinished": "Its process ended before the run did. python -m fednano.run resume=RUN_FOLDER continues a run "
    "from its newest checkpoint.",
    "interrupted": "It was stopped. python -m fednano.run resume=RUN_FOLDER continues it.",
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """One run in the list of runs."""

    id: str
    name: str
    folder: str
    apart: tuple[str, ...]
    status: str
    mark: str
    ended: str
    share: float  # of what is planned, in [0, 1]
    facts: tuple[tuple[str, str], ...]
    chart: Chart | None
    note: str


def run_title(run: FollowedRun) -> str:
    """Of the browser's tab: what matters comes first, since tabs are narrow."""
    return f"{MARKS.get(run.status, '')} {_ended(run.history)} · {run.name} · {run.status} · fednano"


def runs_title(runs: Sequence[FollowedRun]) -> str:
    """Of the browser's tab."""
    running = sum(run.running for run in runs)
    return f"{running} of {units.plural(len(runs), 'run')} running · fednano"


def run_fragment(run: FollowedRun, has_report: bool) -> str:
    """What the page of a run shows below its frame, as HTML."""
    history = run.history.so_far()
    figures = history.figures
    told = summary_now(run, history)
    states = [client.state for client in figures.clients.values()]
    more = len(figures.clients) - len(history.lanes)
    return template("watch_run.html.j2").render(
        run=run,
        mark=MARKS.get(run.status, ""),
        has_report=has_report,
        subtitle=page.subtitle(history, told),
        seed=figures.run.seed if figures.run else None,
        notes=_notes(run, told),
        ended=_ended(history),
        progress=figures.progress,
        tiles=[tile for tile in _tiles(run, history, told) if tile.value != units.NOT_MEASURED],
        panels=quality.panels(history, page.clock_name(history)),
        clock_name=page.clock_name(history),
        unit=figures.unit,
        rounds=page.rounds_charts(history.rounds, figures.unit),
        timeline=timeline(history),
        map=round_map(history),
        clients=[_client(history, name) for name in history.lanes],
        counts=[(STATES[state], state, states.count(state)) for state in STATES if state in states],
        more=units.plural(more, "more client") if more else "",
    )


def runs_fragment(runs: Sequence[FollowedRun], left_out: int) -> str:
    """What the list of runs shows, as HTML."""
    told = _told_apart(runs)
    return template("watch_runs.html.j2").render(
        cards=[_card(run, told.get(run.id, ())) for run in runs],
        left_out=units.plural(left_out, "older run") if left_out else "",
    )


def _told_apart(runs: Sequence[FollowedRun]) -> dict[str, tuple[str, ...]]:
    """By run, the values that tell it apart from the others of its experiment, such as fedavg and seed=2."""
    experiments: dict[str, list[FollowedRun]] = {}
    for run in runs:
        if run.config:
            experiments.setdefault(run.name, []).append(run)
    found = {}
    for alike in experiments.values():
        keys = telling(alike, over="")[:MOST_KEYS]
        for run in alike:
            found[run.id] = tuple(word(key, run.config[key]) for key in keys if key in run.config)
    return found


def summary_now(run: FollowedRun, history: History) -> dict[str, Any]:
    """The summary of a finished run; of any other, the figures of its events so far under the same keys."""
    summary = run.summary()
    if not run.running and summary and history.figures.end:
        return summary
    figures, spent = history.figures, run.energy()
    return {
        **page.unfinished(history),
        "status": run.status,
        "goodput": figures.goodput(),
        "wall_s": run.wall_s or None,
        "tokens_per_s": figures.tokens / run.wall_s if run.wall_s and figures.tokens else None,
        "energy_kwh": spent.get("energy_kwh"),
        "co2_g": spent.get("co2_g"),
    }


def _ended(history: History) -> str:
    """ "round 3/12", or "round 3" where the number of rounds is not planned."""
    run = history.figures.run
    planned = f"/{run.rounds}" if run and run.rounds else ""
    return f"{history.figures.unit} {history.figures.rounds}{planned}"


def _left_s(run: FollowedRun) -> float | None:
    """Seconds that are left at the pace so far."""
    done, total = run.history.figures.progress
    return run.wall_s / done * max(0, total - done) if done and run.running else None


def _tiles(run: FollowedRun, history: History, told: dict[str, Any]) -> list[Tile]:
    figures = history.figures
    up = sum(client.up_since is not None for client in figures.clients.values())
    found = page.tiles(history, told)
    if run.running:
        found = [tile for tile in found if not tile.label.startswith("Rows ")]
        elapsed = next(k for k, tile in enumerate(found, 1) if tile.label == "Elapsed time")
        found.insert(elapsed, Tile("Time left", units.duration(_left_s(run)), "at the pace so far"))
        if figures.clients:
            found.insert(0, Tile("Clients up", f"{up} of {len(figures.clients)}", _training(history)))
    return found


def _training(history: History) -> str:
    training = sum(client.state == "training" for client in history.figures.clients.values())
    return f"{training} training"


def _notes(run: FollowedRun, told: dict[str, Any]) -> list[str]:
    notes = [run.fault] if run.fault else []
    if run.behind:
        notes.append(f"The event log is being read: {units.size(run.behind)} left.")
    if told.get("error"):
        notes.append(f"It failed: {told['error']}")
    return notes + ([SAID[run.status]] if run.status in SAID else [])


def _client(history: History, name: str) -> tuple[str, str, str, tuple[str, ...]]:
    """(name, sign, state, cells)."""
    client, total = history.figures.clients[name], history.figures.sum("tokens")
    cells = (
        units.fixed(client.loss) if client.loss is not None else "–",
        units.whole(client.updates),
        units.count(client.tokens),
        units.percent(client.tokens / total) if total else "–",
        units.size(client.bytes_up),
        units.size(client.bytes_down),
        units.whole(client.refused),
        units.whole(client.crashes),
    )
    return name, STATES[client.state], client.state, cells


def _card(run: FollowedRun, apart: tuple[str, ...]) -> Card:
    history, figures = run.history, run.history.figures
    done, total = figures.progress
    up = sum(client.up_since is not None for client in figures.clients.values())
    left = _left_s(run)
    facts = [
        ("bits per byte", figures.bpb),
        ("loss", units.fixed(figures.train_loss) if figures.train_loss is not None else "–"),
        ("tokens", units.count(figures.tokens)),
        *([("up", f"{up} of {len(figures.clients)}")] if figures.clients and run.running else []),
        *([("left", units.duration(left))] if left is not None else []),
    ]
    points = [(s.t, s.value, "") for s in history.losses]
    return Card(
        id=run.id,
        name=run.name,
        folder=str(run.folder),
        apart=apart,
        status=run.status,
        mark=MARKS.get(run.status, ""),
        ended=_ended(history),
        share=min(1.0, done / total) if total else 0.0,
        facts=tuple(facts),
        chart=svg.curve(points, SMALL, "", time_axis=False) if len(points) > 1 else None,
        note=run.fault or (f"{units.size(run.behind)} to be read" if run.behind else ""),
    )
