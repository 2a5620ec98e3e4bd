"""The report of a run, `report.html`: one self-contained page, made from the run folder."""

from pathlib import Path
from typing import Any

from fednano.core.events import Event
from fednano.core.files import read_json, read_text, write_atomically
from fednano.core.inner_step import InnerStep
from fednano.report import energy, units
from fednano.report.figures import Figures
from fednano.report.history import DRAWN, History, read_history
from fednano.report.origin import origin_of
from fednano.report.web import page, quality, work
from fednano.report.web.templating import template
from fednano.report.web.timeline import timeline


def write_report(folder: Path) -> Path:
    """Write `folder/report.html` from the run's config.yaml, events.jsonl and summary.json.

    Without a summary the run counts as unfinished, and the report covers the events alone.

    Raises FileNotFoundError if the event log is missing, ValueError if a file has the wrong format.
    """
    return _write(folder, read_history(folder / "events.jsonl"))


class LiveReport:
    """A sink that collects events as they come, so that the report at a run's end need not read the event log.

    Args:
        figures: of the run, kept up to date by a sink that hears events before this one.
    """

    hears = DRAWN

    def __init__(self, figures: Figures) -> None:
        self._history = History(figures=figures)

    def event(self, event: Event) -> None:
        self._history.draw(event)

    def step(self, step: InnerStep) -> None:
        pass

    def close(self, summary: dict[str, Any]) -> None:
        pass

    def write(self, folder: Path, tape_sha256: str) -> Path:
        """Write the report of the events heard so far, as `write_report` does. Call it once."""
        self._history.finish()
        self._history.tape_sha256 = tape_sha256
        return _write(folder, self._history)


def _write(folder: Path, history: History) -> Path:
    config = folder / "config.yaml"
    text = read_text(config, "restore it or remove it") if config.exists() else ""
    summary = folder / "summary.json"
    figures = _read_object(summary) if summary.exists() else page.unfinished(history)
    drawn = folder / "energy.json"
    curves = _read_object(drawn)["carbon_g_kwh"] if drawn.exists() else {}
    target = folder / "report.html"
    write_atomically(target, render(folder, history, figures, text, curves, origin_of(folder)))
    return target


def render(
    folder: Path,
    history: History,
    summary: dict[str, Any],
    config: str,
    curves: dict[str, energy.Curve] | None = None,
    origin: dict[str, Any] | None = None,
) -> str:
    """The page as text; `curves` are carbon intensities by client, and `origin` is that of the run."""
    started, clock = history.figures.run, page.clock_name(history)
    drawn = quality.panels(history, clock, quality.read_costs(folder), page.is_analytic(config))
    return template("report.html.j2").render(
        name=page.experiment_name(folder, config),
        folder=folder.resolve().name,
        status=summary.get("status") or "unfinished",
        subtitle=page.subtitle(history, summary),
        notices=page.notices(history, summary),
        tiles=page.tiles(history, summary),
        panels=drawn,
        axes=quality.switches(drawn, clock),
        clock_name=clock,
        unit=history.figures.unit,
        rounds=page.rounds_charts(history.rounds, history.figures.unit),
        time=work.time_section(history),
        updates=work.updates_charts(history, summary),
        timeline=timeline(history),
        columns=page.COLUMNS,
        clients=page.client_rows(history),
        totals=page.total_row(history),
        energy=energy.section(history, summary, curves or {}),
        energy_columns=energy.COLUMNS,
        ledger=page.ledger(summary.get("rows")),
        ledger_words=page.LEDGER,
        config=config,
        command=(origin or {}).get("command"),
        origin=page.origin_facts(origin or {}),
        versions=sorted((summary.get("versions") or {}).items()),
        digests=[("weights", summary.get("weights_sha256")), ("event log", summary.get("tape_sha256"))],
        seed=units.whole(started.seed if started else summary.get("seed")),
        not_measured=units.NOT_MEASURED,
    )


def _read_object(path: Path) -> dict[str, Any]:
    return read_json(path, "remove it to report from the events alone")
