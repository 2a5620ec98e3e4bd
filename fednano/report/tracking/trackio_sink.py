"""The Trackio logger. The only module that imports trackio, and only when a run asks for it."""

import io
import json
from contextlib import redirect_stdout, suppress
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fednano.core.events import Event
from fednano.core.failures import naming
from fednano.core.inner_step import InnerStep
from fednano.report.metrics import MetricsRow
from fednano.report.sinks import Energy, Sink
from fednano.report.tracking.needed import needed
from fednano.report.tracking.scalars import scalars

IDENTITY = "trackio.json"


class TrackioSink:
    """Logs the rows of `metrics.jsonl` over tokens as a run of Trackio, whose database `TRACKIO_DIR` moves.

    `trackio.json` in the run folder says which of its runs that is. A resumed run is written anew, so that each round
    is there once.

    Raises ValueError if trackio is not installed, and OSError if a file cannot be written.
    """

    hears = ()

    def __init__(self, *, settings: "Trackio", config: dict[str, Any], folder: Path) -> None:
        with needed("trackio", "'fednano[trackio]'"):
            import trackio

        file = folder / IDENTITY
        with suppress(OSError, ValueError, KeyError, TypeError):  # none, or a damaged one: a new run of Trackio's
            before = json.loads(file.read_text(encoding="utf-8"))
            for run in trackio.Api().runs(before["project"]):
                if run.id == before["id"]:
                    run.delete()
        with redirect_stdout(io.StringIO()):  # it greets in several lines
            # In a context of its own, since what trackio takes for the current run is finished once more at exit.
            self._run: Any = copy_context().run(
                trackio.init,
                settings.project,
                name=settings.name or f"{folder.parent.name}/{folder.name}",
                group=settings.group,
                config=config,
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        with naming(file):
            file.write_text(json.dumps({"project": settings.project, "id": self._run.id}), encoding="utf-8")

    def event(self, event: Event) -> None:
        pass

    def step(self, step: InnerStep) -> None:
        pass

    def log_metrics(self, row: MetricsRow) -> None:
        self._run.log(dict(scalars(row)), step=row["tokens"])

    def close(self, summary: dict[str, Any]) -> None:
        with redirect_stdout(io.StringIO()):
            self._run.finish()


@dataclass(frozen=True, kw_only=True)
class Trackio:
    """`logger=trackio`: the settings of a `TrackioSink`.

    Args:
        project: Trackio project that the run belongs to.
        name: name of the run; None: experiment/date_time, like the run folder.
        group: group that shows the run beside others; None: no group.
    """

    project: str
    name: str | None
    group: str | None

    def __post_init__(self) -> None:
        if not self.project:
            raise ValueError("logger.trackio.project must not be empty; name the Trackio project")

    def open(self, folder: Path, config: dict[str, Any], energy: Energy) -> list[Sink]:
        return [TrackioSink(settings=self, config=config, folder=folder)]
