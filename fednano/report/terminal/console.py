"""The console: a live display on a terminal, plain lines elsewhere (in a log, in CI, under a sweep agent)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from fednano.core.clock import wall
from fednano.core.events import Evaluated, Event, RoundMerged, RoundSkipped, RunStarted, WorkDispatched
from fednano.core.inner_step import InnerStep
from fednano.report import units
from fednano.report.metrics import Totals
from fednano.report.sinks import REFUSAL
from fednano.report.terminal import display
from fednano.report.terminal.glyphs import glyphs_of
from fednano.report.terminal.live import Room, RunPace, Shown, Work, live

REFRESH_S = 0.4  # drawing takes some 7 ms of one core
PLAIN_PROGRESS_S = 10.0
_SPARK_VALUES = 20
_LINES = (RoundMerged, RoundSkipped, Evaluated)


class Console:
    """A sink that shows the run's progress. Steps and events refresh the display; there is no thread.

    Args:
        name: of the experiment.
        folder: the run folder; the closing summary names the report in it.
        out: where to write; stdout by default.
        energy: the run's consumption so far; None: it is not shown.
    """

    def __init__(self, name: str, folder: Path, out: RichConsole | None = None, energy: Totals | None = None) -> None:
        self._name = name
        self._folder = folder
        self._out = out or RichConsole()
        self._glyphs = glyphs_of(self._out)
        self._energy = energy
        self._run = Shown(name=name)
        self.figures = self._run.figures
        self._stepped_tokens = 0
        self._repeats = False
        self._done_before = 0.0  # of the run's progress, by the process that is continued
        self._start = wall()
        self._drawn = 0.0
        self._live: Live | None = None

    def event(self, event: Event) -> None:
        run = self._run
        self.figures.add(event)
        run.strips.event(event)
        match event:
            case WorkDispatched():
                before = run.work.get(event.client)
                run.work[event.client] = Work(0, event.steps, before.loss if before else None)
            case RunStarted():
                self._begin()
            case RoundMerged():
                run.losses = [*run.losses[1 - _SPARK_VALUES :], event.train_loss]
            case Evaluated():
                run.bpbs = [*run.bpbs[1 - _SPARK_VALUES :], event.val_bpb]
        if self._live:
            self._draw()
        elif isinstance(event, _LINES) and not self._repeats:
            self._line(event)

    def step(self, step: InnerStep) -> None:
        self._run.work[step.client] = Work(step.step, step.steps, step.loss)
        self._run.stepping = step.client
        self._stepped_tokens += step.tokens
        self._draw()

    @contextmanager
    def repeating(self) -> Iterator[None]:
        """A block in which the events of a run that is continued come once more; they get no lines of their own."""
        self._repeats = True
        yield
        self._repeats = False
        self._start, self._done_before = wall(), self.figures.progress[0]
        if self.figures.run and not self._live:
            self._print(f"continued after {display.ended(self.figures)}  {self.figures.tokens:,} tokens")

    def note(self, line: str) -> None:
        """Print a line that is not an event; it stays above the display."""
        self._print(line)

    def stop(self) -> None:
        """Stop refreshing: the display stays as it is and the terminal is free again."""
        if self._live:
            self._run.stepping = ""
            self._live.update(self._render(), refresh=True)
            self._live.stop()
            self._live = None

    def close(self, summary: dict[str, Any]) -> None:
        self.stop()
        if summary == REFUSAL:
            return
        width = min(display.COLUMNS, self._out.width)
        lines = display.summary_text(summary, self.figures.unit, width, self._glyphs)
        if self.figures.refusals:
            counts = ", ".join(f"{count:,} {reason}" for reason, count in self.figures.refusals.most_common())
            lines.append(f"{'updates refused':<{display.LABEL}}", "dim").append(f"{counts}\n", "yellow")
            for reason, cause in self.figures.causes.items():
                lines.append(f"{'':<{display.LABEL}}").append(f"{reason}, {cause}\n", "yellow")
        report = self._folder / "report.html"
        if report.exists():
            lines.append(f"{'report':<{display.LABEL}}", "dim").append(str(_from_here(report)))
        self._out.print(lines, soft_wrap=True)

    def pace(self) -> RunPace:
        """Wall-clock figures as of now; the time left is extrapolated from the rounds so far."""
        elapsed = wall() - self._start
        done, total = self.figures.progress
        here = done - self._done_before
        eta = elapsed / here * max(0, total - done) if here > 0 else None
        return RunPace(elapsed, eta, self._stepped_tokens / elapsed if self._stepped_tokens and elapsed else None)

    def _begin(self) -> None:
        self._start = wall()
        if self._out.is_interactive:
            self._live = Live(self._render(), console=self._out, auto_refresh=False)
            self._live.start(refresh=True)
        else:
            size, choices = display.headline(self.figures)
            self._print(f"fednano {self._name}: {size}")
            self._print(choices)

    def _draw(self) -> None:
        if self._live and wall() - self._drawn >= REFRESH_S:
            self._live.update(self._render(), refresh=True)
            self._drawn = wall()

    def _render(self) -> RenderableType:
        if self._energy:
            self._run.energy = self._energy()
        return live(self._run, self.pace(), Room(*self._out.size, self._glyphs))

    def _line(self, event: Event) -> None:
        """One plain line for the end of a round, and for an evaluation."""
        ended = display.ended(self.figures)
        match event:
            case RoundMerged():
                pace = self.pace()
                parts = [
                    ended,
                    *([units.plural(len(event.leases), "update")] if self.figures.clients else []),
                    f"loss {event.train_loss:.4f}" if units.measured(event.train_loss) else "",
                    f"{event.tokens_total:,} tokens"
                    + (f" ({units.count(pace.tokens_per_s)}/s)" if pace.tokens_per_s else ""),
                    f"{display.clock_name(self.figures)} {units.duration(event.t)}",
                    f"left {units.duration(pace.eta_s)}" if pace.eta_s is not None else "",
                ]
                self._print("  ".join(part for part in parts if part))
            case RoundSkipped():
                updates = units.plural(event.updates, "update")
                self._print(f"{ended}  skipped ({event.reason})  {updates}")
            case Evaluated():
                figures = f"{units.fixed(event.val_bpb, 4)} bits per byte  loss {units.fixed(event.val_loss, 4)}"
                missing = display.DIVERGED if self.figures.diverged else units.NOT_MEASURED
                shown = figures if units.measured(event.val_bpb) else missing
                self._print(f"validation  {shown}  {event.tokens_total:,} tokens")

    def _print(self, line: str) -> None:
        self._out.print(Text(self._glyphs.said(line)), soft_wrap=True)


class RichProgress:
    """A progress bar for the work before a run (data, tokenizer); plain lines where there is no terminal."""

    def __init__(self, out: RichConsole | None = None) -> None:
        self._out = out or RichConsole()
        self._glyphs = glyphs_of(self._out)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._what = ""
        self._unit = ""
        self._total: int | None = None
        self._done = 0
        self._start = 0.0
        self._drawn = 0.0

    def start(self, what: str, total: int | None, unit: str) -> None:
        """Begin `what`, of `total` units (None: unknown). Unit "bytes" is shown as kB, MB, GB."""
        self._what, self._total, self._unit = what, total, unit
        self._done, self._start = 0, wall()
        self._drawn = self._start
        if not self._out.is_interactive:
            self._print(f"{what} …")
            return
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(complete_style="blue", finished_style="green"),
            TextColumn("{task.fields[amount]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=self._out,
            auto_refresh=False,
        )
        self._task = self._bar.add_task(what, total=total, amount="")
        self._bar.start()
        self._bar.refresh()

    def advance(self, n: int) -> None:
        """`n` more units are done."""
        self._done += n
        if self._bar:
            self._bar.update(self._task, completed=self._done, amount=self._amount())
            if wall() - self._drawn >= REFRESH_S:
                self._bar.refresh()
                self._drawn = wall()
        elif wall() - self._drawn >= PLAIN_PROGRESS_S:
            self._print(f"{self._what}: {self._amount()}")
            self._drawn = wall()

    def finish(self) -> None:
        """The work is over; its amount and duration stay on screen."""
        if self._bar:
            self._bar.update(self._task, total=max(1, self._done), completed=max(1, self._done), amount=self._amount())
            self._bar.refresh()
            self._bar.stop()
            self._bar = None
        else:
            self._print(f"{self._what}: {self._amount()} in {units.duration(wall() - self._start)}")

    def note(self, line: str) -> None:
        """Print a line that stays on screen."""
        self._print(line)

    def _amount(self) -> str:
        def text(n: int) -> str:
            return units.size(n) if self._unit == "bytes" else f"{n:,}"

        of_total = f" of {text(self._total)}" if self._total is not None and self._done < self._total else ""
        unit = "" if self._unit == "bytes" else f" {self._unit}"
        return f"{text(self._done)}{of_total}{unit}"

    def _print(self, line: str) -> None:
        self._out.print(Text(self._glyphs.said(line)), soft_wrap=True)


def _from_here(path: Path) -> Path:
    """A path as it is shortest: from the working directory on, if it is there."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
