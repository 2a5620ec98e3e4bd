"""The table at the end of a sweep: each job with the overrides that vary, what became of it, its figures and time."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fednano.report import units
from fednano.report.terminal.printer import printer

HEADINGS = {"val_bpb": "bpb", "co2_g": "gCO2", "energy_kwh": "kWh"}
LOWER = ("val_bpb", "train_loss", "co2_g", "energy_kwh", "virtual_s", "wall_s", "bytes.up", "bytes.down", "peak_rss_mb")
STYLES = {"completed": "green", "completed before": "green", "failed": "red", "refused": "red", "interrupted": "yellow"}


class SweptJob(Protocol):
    """What is known of a job."""

    @property
    def job(self) -> int: ...
    @property
    def overrides(self) -> tuple[str, ...]: ...
    @property
    def status(self) -> str: ...
    @property
    def figures(self) -> Mapping[str, float | None] | None: ...
    @property
    def wall_s(self) -> float | None: ...
    @property
    def diverged(self) -> Collection[str]: ...


class SweepTable:
    """The table of a sweep.

    Args:
        folder: of the sweep, which the closing line names.
        jobs: all of them.
        out: where to print; by default the terminal, or without one plain text.
    """

    def __init__(self, folder: Path, jobs: Sequence[SweptJob], out: Console | None = None) -> None:
        self._folder = folder
        self._jobs = jobs
        self._out = out or printer()

    def print(self) -> None:
        if self._jobs:
            self._out.print()
            self._out.print(self._table())
        if best := self._best():
            self._out.print(Text(best), soft_wrap=True)
        self._out.print(Text(self._closing()), soft_wrap=True)

    def _best(self) -> str:
        """The job with the lowest first figure, where lower is better and no other figure is asked for."""
        names = {name for job in self._jobs for name in job.figures or ()}
        name = next(iter(names), "")
        values = [((job.figures or {}).get(name), job.job) for job in self._jobs]
        found = [(value, number) for value, number in values if value is not None and units.measured(value)]
        if len(names) != 1 or name not in LOWER or len(found) < 2:
            return ""
        value, number = min(found)
        return f"lowest {HEADINGS.get(name, name)}: job {number}, {_figure(value)}"

    def _table(self) -> Table:
        names = list(dict.fromkeys(name for job in self._jobs for name in job.figures or ()))
        names = names or ["val_bpb"]
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        table.add_column("job", justify="right", no_wrap=True)
        table.add_column("overrides", overflow="fold", ratio=1 if self._out.is_terminal else None)
        table.add_column("status", no_wrap=True)
        for name in names:
            table.add_column(HEADINGS.get(name, name), justify="right", no_wrap=True)
        table.add_column("time", justify="right", no_wrap=True)
        vary = varying(self._jobs)
        for job in self._jobs:
            figures = job.figures or {}
            words = " ".join(word for word in job.overrides if word.partition("=")[0] in vary)
            table.add_row(
                str(job.job),
                Text(words or "–"),
                Text(job.status, STYLES.get(job.status, "")),
                *(_cell(job, name) if name in figures else "–" for name in names),
                "–" if job.wall_s is None else units.duration(job.wall_s),
            )
        return table

    def _closing(self) -> str:
        done = [job for job in self._jobs if job.status.startswith("completed")]
        if len(done) == len(self._jobs) and done:
            return f"{units.plural(len(done), 'job')} completed in {self._folder}"
        return (
            f"{len(done)} of {units.plural(len(self._jobs), 'job')} completed in {self._folder}; continue the sweep "
            f"with sweep.resume={self._folder}"
        )


def varying(jobs: Sequence[SweptJob]) -> set[str]:
    """The keys whose values are not the same in all jobs."""
    values: dict[str, set[str]] = {}
    for job in jobs:
        for word in job.overrides:
            values.setdefault(word.partition("=")[0], set()).add(word)
    everywhere = set.intersection(*({word.partition("=")[0] for word in job.overrides} for job in jobs))
    return {key for key, words in values.items() if len(words) > 1 or key not in everywhere}


def _cell(job: SweptJob, name: str) -> str:
    return units.DIVERGED if name in job.diverged else _figure((job.figures or {}).get(name))


def _figure(value: float | None) -> str:
    """Five significant digits; small and large figures with an exponent."""
    return f"{value:.5g}" if value is not None and units.measured(value) else "not measured"
