"""One job of Hydra's: a run in its folder, or one of the runs of a sweep, which may have been begun before."""

import gc
import os
import shlex
import shutil
import sys
import traceback
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from fednano.config.errors import BAD_INPUT, FAILED, failed, one_line, refuse
from fednano.config.hydra.node import current_job, is_of_sweep
from fednano.config.hydra.swept import chosen_late
from fednano.core.claim import CLAIM, held
from fednano.core.event_log import InUseError
from fednano.core.failures import explained
from fednano.core.interrupts import EndAsked, SignalledError, asked_to_end, preemption
from fednano.core.ranks import rank, world
from fednano.experiment.sweep import INTERRUPTED, Returned, SweepJob, SweepRecord, TakenError
from fednano.process.tied import end_with

if TYPE_CHECKING:
    from rich.console import Console

    from fednano.core.progress import Progress
    from fednano.runtime.session import Outcome
    from fednano.training.checkpoint import Snapshot

CONSOLE = "console.log"  # in the folder of a job that shares the terminal with others: what it would have printed


class JobFailedError(Exception):
    """A job of a sweep failed, which has been said; for sweepers that count failures."""


def launch(cfg: DictConfig) -> Returned:
    """One job inside its run folder; returns what `sweep.metrics` names, for sweepers.

    A job of a sweep that fails says so and returns None, so that the others run. If a plug-in's sweeper chose its
    values, JobFailedError is raised instead, which such a sweeper counts as a failed trial.
    """
    job = current_job()
    if not is_of_sweep(job):
        return _single(cfg, job)
    try:
        return _one_of_many(cfg, job)
    finally:
        gc.collect()  # a job's parts refer to each other, and would hold memory and open files for many jobs more


def _single(cfg: DictConfig, job: Any) -> Returned:
    folder, base = Path(job.runtime.output_dir), Path(job.runtime.cwd)
    held = frozenset(folder.iterdir())
    _find_modules_of(base)
    from fednano.experiment.preflight import refuse_used_folder

    try:
        refuse_used_folder(folder, "hydra.run.dir")
        outcome, asked = run(cfg, folder, unforeseen=chosen_late(job), base=base)
        given = (source.path for source in job.runtime.config_sources if source.provider == "command-line")
        tell_how_to_continue(folder, outcome.status, next(given, None))
    except InUseError as error:
        sys.exit(refuse(error))
    except ValueError as error:
        withdraw(folder, held, job.output_subdir, base)
        sys.exit(refuse(error))
    except SignalledError:
        withdraw(folder, held, job.output_subdir, base)
        raise
    except OSError as error:
        if explained(error) is None:
            raise
        withdraw(folder, held, job.output_subdir, base)
        sys.exit(failed(error))
    if outcome.error and explained(outcome.error):
        sys.exit(failed(outcome.error))
    if outcome.error:  # Hydra would shorten the traceback, and advise to set a variable
        traceback.print_exception(outcome.error)
        sys.exit(FAILED)
    if asked.number is not None and outcome.status == "interrupted":
        sys.exit(asked.code)
    return outcome.progress.val_bpb


def _one_of_many(cfg: DictConfig, job: Any) -> Returned:
    folder, base = Path(job.runtime.output_dir), Path(job.runtime.cwd)
    sweep = SweepRecord.of_job(job)
    held = frozenset(folder.iterdir())
    own = sweep.job(job.job.num, list(job.overrides.task), folder)
    _find_modules_of(base)
    if own.shares_terminal and (command := sweep.process):  # a process that the launcher has started
        end_with(command)
    try:
        with own:
            outcome, asked = _begin_or_continue(cfg, job, own)
            if outcome is None:
                return own.completed(cfg, before=True)
    except SignalledError:
        withdraw(folder, held, job.output_subdir, base)
        own.ended(INTERRUPTED)
        raise
    except Exception as error:
        is_input = isinstance(error, ValueError)
        if not isinstance(error, InUseError | TakenError) and (is_input or explained(error)):
            withdraw(folder, held, job.output_subdir, base)
        return _failed(own, error, BAD_INPUT if is_input else FAILED, job)
    if outcome.error:
        return _failed(own, outcome.error, FAILED, job)
    if outcome.status == "interrupted":
        own.ended(INTERRUPTED)
    result = None if outcome.status == "interrupted" else own.completed(cfg)
    if asked.number is not None:
        try:
            asked.pass_on()  # to the manager of a cluster's job, which queues it once more
        except Exception as error:  # or says why not
            return _failed(own, error, FAILED, job)
        sys.exit(asked.code)  # not only this job: the whole sweep
    return result


def _begin_or_continue(cfg: DictConfig, job: Any, own: SweepJob) -> tuple["Outcome | None", EndAsked]:
    """Run the job, from its newest checkpoint if it has one; no outcome if the run was completed before."""
    from fednano.experiment.preflight import EVENTS, refuse_used_folder
    from fednano.experiment.resume import clear, reopen_job

    base = Path(job.runtime.cwd)
    if not own.begun_before:
        refuse_used_folder(own.folder, "hydra.sweep.subdir")
    if own.begun_before and (own.folder / EVENTS).exists():
        reopened = reopen_job(own.folder, cfg)
        if reopened.completed:
            finish(own.folder)
            return None, EndAsked()
        if reopened.snapshot:
            return run(reopened.cfg, own.folder, reopened.snapshot, base=base, out=_output(own))
        clear(own.folder)  # it ended before its first checkpoint
    return run(cfg, own.folder, unforeseen=chosen_late(job), base=base, out=_output(own))


def _output(own: SweepJob) -> "Console | None":
    """Where the run prints: the terminal, unless other jobs print there at the same time."""
    if not own.shares_terminal:
        return None
    from rich.console import Console

    return Console(file=(own.folder / CONSOLE).open("a", encoding="utf-8", buffering=1), width=120)


def _failed(own: SweepJob, error: Exception, code: int, job: Any) -> Returned:
    """Say why a job of a sweep failed, and record it."""
    cause = explained(error)
    if cause is None and code == FAILED:
        traceback.print_exception(error)
        cause = f"{type(error).__name__}: {one_line(error)}"
    own.failed(cause or one_line(error), code)
    if chosen_late(job):
        raise JobFailedError(cause or one_line(error))
    return None


def _find_modules_of(base: Path) -> None:
    """Let child processes find the user's modules in the folder where the command was started."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if Path.cwd() != base and paths[0] != str(base):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(base), *paths)))


def withdraw(folder: Path, held: Collection[Path], hydras: str | None, base: Path) -> None:
    """Remove the files of a job that ended before its first event, and its folder if it was made for the job.

    `held` are the files that were there before; `hydras` is the sub-folder of Hydra's own files. Of the folders above,
    empty ones below `base` are removed too.
    """
    event_log = folder / "events.jsonl"
    if event_log.exists() and event_log.stat().st_size:
        return
    for path in set(folder.iterdir()) - set(held):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if {path.name for path in held} <= {hydras, CLAIM}:
        shutil.rmtree(folder)
        for parent in folder.absolute().parents:
            if base not in parent.parents or any(parent.iterdir()):
                break
            parent.rmdir()


def tell_how_to_continue(folder: Path, status: str, config_dir: str | None) -> None:
    """Print how to continue a single run that was interrupted or has failed, if it has a checkpoint.

    `config_dir` is the folder that --config-dir gave.
    """
    from fednano.training.checkpoint import Checkpoints

    if not rank() and status in ("interrupted", "failed") and Checkpoints.exist(folder / "checkpoints"):
        again = f"--config-dir {shlex.quote(str(config_dir))} " if config_dir else ""
        print(f"continue the run with {again}resume={shlex.quote(str(folder.absolute()))}", flush=True)


def finish(folder: Path) -> str:
    """Write the report of a completed run that was killed just before it did; returns what was left to do."""
    if (folder / "report.html").exists():
        return "there is nothing to do"
    from fednano.core.files import remove_unwritten
    from fednano.report.web.html import write_report

    remove_unwritten(folder)
    write_report(folder)
    return "its report.html was missing and is written"


def progress(shown: bool = True) -> "Progress":
    """The progress display of the preparation; only rank 0 shows one."""
    from fednano.core.progress import Silent
    from fednano.report.terminal.console import RichProgress

    return RichProgress() if shown and not rank() else Silent()


def run(
    cfg: DictConfig,
    folder: Path,
    resume: "Snapshot | None" = None,
    unforeseen: bool = False,
    base: Path | None = None,
    out: "Console | None" = None,
) -> tuple["Outcome", EndAsked]:
    """Run one job; returns also whether a signal asked it to end. Errors while training are in the outcome.

    Raises ValueError for bad input, SignalledError if a signal comes before the run begins, and OSError.
    `unforeseen` jobs have not been checked yet, so a trace that ends before the run does is refused here. `base` is
    the folder that relative paths start from, the current one by default. `out` is where the run prints.
    """
    from fednano.coordination.memory import MemoryStore
    from fednano.experiment.experiment import Experiment
    from fednano.runtime.play_through import check_traces
    from fednano.runtime.run_folder import run_in_folder

    store = MemoryStore()
    experiment = Experiment(cfg, base)
    told = progress(shown=out is None)
    parts = experiment.parts(experiment.prepare(told), store)
    if unforeseen:
        check_traces(parts, told)
    # Under torchrun a signal arrives a second time, passed on by torchrun, which kills a rank after half a minute.
    claim = nullcontext() if rank() else held(folder)
    with claim, asked_to_end(store.request_stop, again=world() > 1, at=preemption()) as asked:
        outcome = run_in_folder(
            folder, cfg.name, experiment.runtime, parts, experiment.groups.logger, experiment.resolved(cfg), resume, out
        )
    return outcome, asked
