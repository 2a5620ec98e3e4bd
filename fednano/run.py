"""The command that runs an experiment: composes, checks, prepares, launches and summarises it.

    python -m fednano.run model=d4 strategy=fedavg volatility=none clients=8

Everything that depends on the user's input is checked before a run folder exists.
"""

from fednano.core.interrupts import end_at_signals

if __name__ == "__main__":  # first, since the imports below take a while
    end_at_signals()

import gc
import os
import shutil
import sys
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from fednano.config.compose import command_line, conf_dir, hand_over, search_path
from fednano.config.errors import ended, failed, guarded, refuse
from fednano.config.hydra.choices import without_parts
from fednano.config.hydra.options import check_options
from fednano.config.jobs import Job, chosen_late, planned, rerun
from fednano.core.claim import CLAIM, remove_left
from fednano.core.event_log import InUseError
from fednano.core.failures import explained
from fednano.core.interrupts import EndAsked, SignalledError, asked_to_end, unwinding
from fednano.core.ranks import rank, world
from fednano.process.environment import QUIET
from fednano.process.surroundings import settle

if TYPE_CHECKING:
    from fednano.core.progress import Progress
    from fednano.runtime.session import Outcome
    from fednano.training.checkpoint import Snapshot

LAUNCH = -1  # no exit code: Hydra is to run the jobs


def main() -> int:
    """Run the command; returns its exit code."""
    os.environ.update(QUIET)
    with without_parts(), ExitStack() as claims:  # held until the last job has ended
        code = guarded(lambda: _command(claims))
        return ended(_launched) if code == LAUNCH else code


def _launched() -> int:
    """Have Hydra run the jobs; a job that ends otherwise than well ends the command with its exit code."""
    with unwinding():
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(launch)()
    return 0


def _command(claims: ExitStack) -> int:
    """Check the command line, and run what does not need Hydra; returns the exit code, or LAUNCH."""
    arguments = command_line()
    settle()
    if arguments.shell_completion:
        check_options(arguments)
        return LAUNCH
    if arguments.help or arguments.hydra_help or arguments.info or arguments.cfg:
        # Hydra composes what it shows; errors are reported here.
        shown = planned(arguments, launch).overrides
        if arguments.hydra_help:  # it is of Hydra's own node alone
            shown = tuple(word for word in shown if word.lstrip("+~").startswith("hydra"))
        hand_over(arguments, shown)
        return LAUNCH
    if arguments.experimental_rerun:
        return _rerun(arguments.experimental_rerun, claims)
    if any(override.startswith("resume=") and override != "resume=null" for override in arguments.overrides):
        return _resume(arguments)
    job = _preflight(arguments, claims)
    if not rank():
        return LAUNCH
    with job.entered():
        return _ended(*_run(job.cfg, Path()))


def _preflight(arguments: Any, claims: ExitStack) -> Job:
    """Compose, check and prepare every job, and claim their folder, so that bad input is found before any of them runs.

    Returns the first job. Only rank 0 claims the folder, which it alone writes.
    """
    plan = planned(arguments, launch)
    if plan.multirun and world() > 1:
        raise ValueError("torchrun can start only one run, got -m; remove -m")
    from fednano.experiment.preflight import check_jobs, claimed, refuse_shared_folders, refuse_used_folders

    if not rank():
        refuse_shared_folders(plan)
        refuse_used_folders(plan)
    check_jobs(plan.jobs, _progress())
    if not rank():
        claim = claimed(plan.folder, plan.timed, plan.key)
        claims.callback(claim.release)
        refuse_used_folders(plan)  # a run may have ended there meanwhile
        hand_over(arguments, plan.within(claim.folder))
    return plan.jobs[0]


def _rerun(pickled: str, claims: ExitStack) -> int:
    """Run the job that Hydra pickled into a file once more, in a folder of its own; returns the exit code."""
    job = rerun(pickled)
    from fednano.experiment.preflight import check_jobs, claimed

    check_jobs([job], _progress())
    folder = Path()
    if not rank():
        claim = claimed(job.folder, True, "hydra.run.dir")
        claims.callback(claim.release)
        folder = claim.folder
    with job.entered():
        return _ended(*_run(job.cfg, folder, base=job.base))


def _progress() -> "Progress":
    """The progress display of the preparation; only rank 0 shows one."""
    from fednano.core.progress import Silent
    from fednano.report.console import RichProgress

    return Silent() if rank() else RichProgress()


def _withdraw(folder: Path, held: Collection[Path], hydras: str | None, base: Path) -> None:
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


def launch(cfg: DictConfig) -> float | None:
    """One job inside its run folder; returns the validation bpb, for sweepers."""
    job = HydraConfig.get()
    try:
        return _launch(cfg, job)
    finally:
        if job.mode == RunMode.MULTIRUN:
            gc.collect()  # a job's parts refer to each other, and would hold memory and open files for many jobs more


def _launch(cfg: DictConfig, job: HydraConf) -> float | None:
    folder, base = Path(job.runtime.output_dir), Path(job.runtime.cwd)
    held = frozenset(folder.iterdir())
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if Path.cwd() != base and paths[0] != str(base):  # child processes find the user's modules there
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(base), *paths)))
    from fednano.experiment.preflight import refuse_used_folder

    try:
        refuse_used_folder(folder, "hydra.run.dir" if job.mode == RunMode.RUN else "hydra.sweep.subdir")
        outcome, asked = _run(cfg, folder, unforeseen=chosen_late(job), base=base)
    except InUseError as error:
        sys.exit(refuse(error))
    except ValueError as error:
        _withdraw(folder, held, job.output_subdir, base)
        sys.exit(refuse(error))
    except SignalledError:
        _withdraw(folder, held, job.output_subdir, base)
        raise
    except OSError as error:
        if explained(error) is None:
            raise
        _withdraw(folder, held, job.output_subdir, base)
        sys.exit(failed(error))
    if outcome.error and explained(outcome.error):
        sys.exit(failed(outcome.error))
    if outcome.error:
        raise outcome.error
    if asked.number is not None and (outcome.status == "interrupted" or job.mode == RunMode.MULTIRUN):
        sys.exit(asked.code)  # not only this job: the whole sweep
    return outcome.progress.val_bpb


def _resume(arguments: Any) -> int:
    """Continue the run that `resume=FOLDER` names; returns the exit code."""
    from fednano.experiment.resume import reopen

    if arguments.multirun:
        raise ValueError("resume can continue only one run, got -m; remove -m")
    run = reopen([*search_path(arguments), *arguments.overrides])
    if run.completed:
        if not rank():
            print(f"fednano: resume={run.folder} is completed; {_completed(run.folder)}")
            remove_left(run.folder)
        return 0
    ended = _run(run.cfg, run.folder, run.snapshot)
    if not rank():
        remove_left(run.folder)
    return _ended(*ended)


def _completed(folder: Path) -> str:
    """Write the report of a completed run that was killed just before it did; returns what was left to do."""
    if (folder / "report.html").exists():
        return "there is nothing to do"
    from fednano.core.files import remove_unwritten
    from fednano.report.web.html import write_report

    remove_unwritten(folder)
    write_report(folder)
    return "its report.html was missing and is written"


def _ended(outcome: "Outcome", asked: EndAsked) -> int:
    """The exit code; raises the error that made the run fail, if there was one."""
    if outcome.error:
        raise outcome.error
    return asked.code if outcome.status == "interrupted" else 0


def _run(
    cfg: DictConfig,
    folder: Path,
    resume: "Snapshot | None" = None,
    unforeseen: bool = False,
    base: Path | None = None,
) -> tuple["Outcome", EndAsked]:
    """Run one job; returns also whether a signal asked it to end. Errors while training are in the outcome.

    Raises ValueError for bad input, SignalledError if a signal comes before the run begins, and OSError.
    `unforeseen` jobs have not been checked yet, so a trace that ends before the run does is refused here. `base` is
    the folder that relative paths start from, the current one by default.
    """
    from fednano.coordination.memory import MemoryStore
    from fednano.experiment.experiment import Experiment
    from fednano.runtime.play_through import check_traces
    from fednano.runtime.run_folder import run_in_folder

    store = MemoryStore()
    experiment = Experiment(cfg, base)
    parts = experiment.parts(experiment.prepare(_progress()), store)
    if unforeseen:
        check_traces(parts)
    # Under torchrun a signal arrives a second time, passed on by torchrun, which kills a rank after half a minute.
    with asked_to_end(store.request_stop, again=world() > 1) as asked:
        outcome = run_in_folder(
            folder, cfg.name, experiment.runtime, parts, experiment.groups.logger, experiment.resolved(cfg), resume
        )
    return outcome, asked


if __name__ == "__main__":
    sys.exit(main())
