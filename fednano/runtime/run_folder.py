"""The run folder: the files a run writes, and its summary."""

import platform
import resource
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console as RichConsole

from fednano.core import tensors
from fednano.core.event_log import EventLog, read_log
from fednano.core.events import finite
from fednano.core.ranks import rank
from fednano.report.audit import Auditor
from fednano.report.console import Console
from fednano.report.html import LiveReport
from fednano.report.sinks import Fanout, Logger, MetricsFile
from fednano.runtime.beginning import check_resume
from fednano.runtime.meter import Meter
from fednano.runtime.parts import Parts
from fednano.runtime.protocol import Conducted, Runtime
from fednano.runtime.session import Outcome, Session
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

    Raises ValueError if the logger cannot be opened or the checkpoint does not fit; only the logger's own files are
    written in that case. If the runtime refuses the run before the first event, an empty event log remains.
    """
    events = folder / "events.jsonl"
    if resume:
        check_resume(parts, resume)
    if not isinstance(runtime, Runtime):
        return runtime.conduct(folder, name, parts, config, resume)
    if rank():
        return runtime.run(parts, Session(folder=folder, event_log=EventLog(None), sink=Fanout(()), resume=resume))
    meter = Meter(parts)
    loggers = logger.open(folder, config, meter.so_far)
    event_log = EventLog(events, resume.event_log if resume else None)
    if not resume:
        OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    console = Console(name, folder, out)
    auditor, report = Auditor(), LiveReport(console.figures)
    sink = Fanout([meter, console, MetricsFile(folder / "metrics.jsonl"), auditor, report, *loggers])
    summary: dict[str, Any] = {"status": "failed"}
    try:
        for event in read_log(events):
            sink.event(event)
        session = Session(folder=folder, event_log=event_log, sink=sink, resume=resume)
        outcome = runtime.run(parts, session)
        wall_s = session.wall_s
        if outcome.state.weights:
            save_model(folder / "model", outcome.state.weights, parts.gpt, parts.tokenizer.save)
        energy = meter.account(outcome.progress.tokens)
        summary = finite(summarise(outcome, parts, runtime.name, event_log, wall_s, auditor, energy))
        write_json(folder / "summary.json", summary)
        write_json(folder / "energy.json", meter.curves())
        report.write(folder, event_log.sha256())
    finally:
        # The terminal is restored and loggers learn of the end, whatever went wrong.
        sink.close(summary)
        event_log.close()
    return outcome


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
        "ended_by": progress.ended_by if outcome.status == "completed" else None,
        "runtime": runtime,
        "strategy": outcome.strategy,
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
        "tokens_per_s": progress.tokens / wall_s
        if outcome.state.weights
        else None,  # nothing is trained without a model
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


def _peak_rss_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024  # bytes on macOS, KiB elsewhere
