"""The run folder: the files a run writes, and its summary."""

import platform
import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console as RichConsole

from fednano.core import tensors
from fednano.core.event_log import EventLog, read_log
from fednano.core.events import finite
from fednano.core.failures import in_one_line, naming
from fednano.core.files import remove_unwritten, write_atomically
from fednano.core.ranks import rank
from fednano.report.audit import Auditor
from fednano.report.metrics import METRICS, MetricRows, MetricsFile
from fednano.report.origin import record_origin
from fednano.report.sinks import REFUSAL, Fanout, Logger, Sink
from fednano.report.terminal.console import Console, RichProgress
from fednano.report.web.html import LiveReport
from fednano.runtime.beginning import check_resume
from fednano.runtime.energy_file import ENERGY, EnergyFile
from fednano.runtime.meter import Meter
from fednano.runtime.parts import Parts
from fednano.runtime.protocol import Conducted, Runtime
from fednano.runtime.session import Outcome, Session
from fednano.strategy.base import summarized
from fednano.strategy.synchronous import PARTS
from fednano.training.checkpoint import Snapshot, save_model, write_json

DISTRIBUTIONS = ("fednano", "torch", "flwr", "numpy", "pyarrow")


def run_in_folder(
    folder: Path,
    name: str,
    runtime: Runtime | Conducted,
    parts: Parts,
    logger: Logger,
    config: dict[str, Any],
    resume: Snapshot | None = None,
    out: RichConsole | None = None,
) -> Outcome:
    """Run an experiment and write config, events, metrics, checkpoints, model, summary and report to `folder`.

    With `resume`, the run of this folder continues from that checkpoint: its event log is truncated there, and the
    remaining events are sent to metrics and loggers again. Ranks other than the first only train. The run is shown on
    `out`, by default the terminal.

    Raises ValueError if the logger cannot be opened, the checkpoint does not fit, or the strategy cannot compute its
    figures; only the logger's own files are written in that case. If the runtime refuses the run before the first
    event, an empty event log remains.
    """
    events = folder / "events.jsonl"
    summarized(parts.strategy, 0)  # or the run would fail at its end
    if resume:
        check_resume(parts, resume)
    if not isinstance(runtime, Runtime):
        return runtime.conduct(folder, name, parts, config, resume)
    if rank():
        return runtime.run(parts, Session(folder=folder, event_log=EventLog(None), sink=Fanout(()), resume=resume))
    meter = Meter(parts)
    loggers = logger.open(folder, config, meter.so_far)
    event_log = EventLog(events, resume.event_log if resume else None)
    if resume:
        remove_unwritten(folder)
    else:
        write_atomically(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
    record_origin(folder)
    console = Console(name, folder, out, meter.totals)
    auditor, report = Auditor(), LiveReport(console.figures)
    sink = _told(folder, meter, console, [auditor, report], loggers)
    written = Written(folder)
    try:
        with console.repeating():
            for event in read_log(events):
                sink.event(event)
        session = Session(folder=folder, event_log=event_log, sink=sink, resume=resume, progress=RichProgress(out))
        outcome = runtime.run(parts, session)
        wall_s = session.wall_s
        _write_results(folder, parts, outcome, event_log, meter, written)
        energy = meter.account(outcome.progress.tokens)
        told = summarise(written.told(outcome), parts, runtime.name, event_log, wall_s, auditor, energy)
        return _write_account(folder, outcome, finite(told), event_log, report, written)
    except Exception as error:
        refused = isinstance(error, ValueError) and event_log.events == (resume.event_log.events if resume else 0)
        if refused:
            written.summary = REFUSAL
        else:
            written.failed(error)
            written.write()
        raise
    finally:
        # The terminal is restored and loggers learn of the end, whatever went wrong.
        with written.closing():
            sink.close(written.summary)
        with written.closing():
            event_log.close()


def _told(folder: Path, meter: Meter, console: Console, others: Sequence[Sink], loggers: Sequence[Sink]) -> Fanout:
    """Everything that hears of the run's events and steps, in order."""
    spent, kept = EnergyFile(folder / ENERGY, meter), MetricsFile(folder / METRICS)
    rows = MetricRows(meter.totals, [kept, *loggers])  # after the meter, so that a row has the energy of its event
    return Fanout([meter, console, spent, rows, kept, *others, *loggers])


def _write_results(
    folder: Path, parts: Parts, outcome: Outcome, event_log: EventLog, meter: Meter, written: "Written"
) -> None:
    """Write what the summary tells of: the last events, the model, and the energy account's curves."""
    if outcome.error:
        written.failed(outcome.error)
    with written.or_failed():
        event_log.flush()
    if outcome.state.weights and (outcome.progress.tokens or not outcome.error):
        with written.or_failed():
            save_model(folder / "model", outcome.state.weights, parts.gpt, parts.tokenizer.save)
    with written.or_failed():
        write_json(folder / ENERGY, meter.curves())


def _write_account(
    folder: Path,
    outcome: Outcome,
    summary: dict[str, Any],
    event_log: EventLog,
    report: LiveReport,
    written: "Written",
) -> Outcome:
    """Write the summary and the report, and the summary once more if that fails; returns what became of the run."""
    written.summary = summary
    written.write()
    with written.or_failed(), naming(folder / "report.html"):
        report.write(folder, event_log.sha256())
    if written.fails(outcome):
        written.write()
    return written.told(outcome)


class Written:
    """What a run writes at its end, each file as far as possible, and the first error on the way.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "summary.json"
        self._error: Exception | None = None
        self.summary: dict[str, Any] = {"status": "failed"}

    def failed(self, error: Exception) -> None:
        """Note an error; the first one is the run's."""
        self._error = self._error or error

    @contextmanager
    def or_failed(self) -> Iterator[None]:
        """Within the block, a file that cannot be written makes the run fail, and what follows is still written."""
        try:
            yield
        except OSError as error:
            self.failed(error)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Within the block, a failed run's files are closed; what was to be written in them may find no room again."""
        try:
            yield
        except OSError:
            if not self._error:
                raise

    def fails(self, outcome: Outcome) -> bool:
        """Whether the run has failed since this outcome."""
        return self._error is not outcome.error

    def told(self, outcome: Outcome) -> Outcome:
        """The outcome, which is a failure once there is an error."""
        return replace(outcome, status="failed", error=self._error) if self._error else outcome

    def write(self) -> None:
        """Write summary.json; if the run has failed, with why, and if there is room."""
        if self._error:
            self.summary = {**self.summary, "status": "failed", "ended_by": None, "error": in_one_line(self._error)}
        with self.or_failed():
            write_json(self._path, self.summary)


def summarise(
    outcome: Outcome,
    parts: Parts,
    runtime: str,
    event_log: EventLog,
    wall_s: float,
    auditor: Auditor,
    energy: dict[str, Any],
) -> dict[str, Any]:
    """The contents of summary.json. Values that the runtime cannot measure are None; `energy` is a meter's account."""
    progress = outcome.progress
    return {
        "status": outcome.status,
        "error": in_one_line(outcome.error) if outcome.error else None,
        "ended_by": progress.ended_by if outcome.status == "completed" else None,
        "runtime": runtime,
        "strategy": outcome.strategy,
        "method": described(parts) if outcome.strategy else {},
        "strategy_summary": summarized(parts.strategy, outcome.state.version) if outcome.strategy else {},
        "parameters": parts.parameters(),
        "clients": outcome.clients,
        "rounds": progress.rounds,
        "inner_steps": progress.steps,
        "tokens": progress.tokens,
        "val_bpb_initial": progress.val_bpb_initial,
        "val_bpb": progress.val_bpb,
        "train_loss": progress.train_loss,
        "wall_s": wall_s,
        "train_s": outcome.train_s,
        "data_s": outcome.data_s,
        "virtual_s": outcome.virtual_s,
        # Nothing is trained without a model.
        "tokens_per_s": progress.tokens / wall_s if outcome.state.weights and progress.tokens else None,
        "goodput": outcome.goodput,
        "rows": outcome.rows,
        "audit": auditor.verdict(),
        "bytes": {"up": progress.bytes_up, "down": progress.bytes_down},
        "energy_kwh": energy["total"]["kwh"],
        "co2_g": energy["total"]["co2_g"],
        "energy": energy,
        "peak_rss_mb": _peak_rss_mb(),
        "weights_sha256": tensors.digest(outcome.state.weights) if outcome.state.weights else None,
        "tape_sha256": event_log.sha256(),
        "seed": parts.settings.seed,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in DISTRIBUTIONS}},
    }


def described(parts: Parts) -> dict[str, str]:
    """What a run's strategy is made of, by class, and its codecs by name."""
    chosen = {key: getattr(parts.strategy, key, None) for key in (*PARTS, "dp")}
    classes = {key: type(part).__name__ for key, part in chosen.items() if part is not None}
    return {**classes, "codec": parts.codecs.update.name, "download": parts.codecs.download.name}


def _peak_rss_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024  # bytes on macOS, KiB elsewhere
