"""The command that runs an experiment: composes, checks, prepares, launches and summarises it.

    python -m fednano.run model=d4 strategy=fedavg volatility=none clients=8

Everything that depends on the user's input is checked before a run folder exists.
"""

from fednano.core.interrupts import end_at_signals

if __name__ == "__main__":  # first, since the imports below take a while
    end_at_signals()

import logging
import os
import re
import sys
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra

from fednano.config.command_help import run_help
from fednano.config.compose import check_overrides, command_line, conf_dir, hand_over, search_path
from fednano.config.errors import BAD_INPUT, FAILED, REFUSAL, ended, failed, guarded, one_line
from fednano.config.hydra.choices import without_parts
from fednano.config.hydra.completion import SCRIPTS, without_interpreter
from fednano.config.hydra.options import check_options
from fednano.config.hydra.plugin_choices import plugin_choices, plugin_settings
from fednano.config.hydra.plugins import lost_jobs_fail, plain_log_of_optuna
from fednano.config.jobs import Job, PlannedLaunch, planned, rerun, told_late, without
from fednano.config.reference.keys import OWN, groups_of, record_settings, root_keys
from fednano.config.reference.shown import Explained, with_plugins
from fednano.config.reference.written import read_choice
from fednano.core.claim import remove_left
from fednano.core.failures import explained
from fednano.core.interrupts import EndAsked, unwinding
from fednano.core.ranks import rank, world
from fednano.experiment.job import JobFailedError, finish, launch, progress, run, tell_how_to_continue
from fednano.experiment.sweep import SweepRecord, exit_code
from fednano.process.environment import QUIET
from fednano.process.surroundings import settle

if TYPE_CHECKING:
    from fednano.runtime.session import Outcome

LAUNCH = -1  # no exit code: Hydra is to run the jobs
RAISES = {"HYDRA_FULL_ERROR": "1"}  # has Hydra raise errors, which are told here
NO_TRIAL = "No trials are completed yet."  # what Optuna says if every job failed
BROKEN_POOLS = ("TerminatedWorkerError", "BrokenProcessPool")  # a process that ran jobs for joblib is gone


@dataclass
class Begun:
    """What the command has begun: its claims, held until the last job has ended, and its sweep if it is one."""

    claims: ExitStack = field(default_factory=ExitStack)
    plan: PlannedLaunch | None = None
    arguments: Any = None
    sweep: SweepRecord | None = None


def main() -> int:
    """Run the command; returns its exit code."""
    os.environ.update(QUIET)
    begun = Begun()
    with without_parts(), begun.claims:
        code = guarded(lambda: _command(begun))
        return ended(lambda: _launched(begun)) if code == LAUNCH else code


def _launched(begun: Begun) -> int:
    """Have Hydra run the jobs; returns the exit code. A single run that ends otherwise than well ends the command."""
    with unwinding():
        if begun.sweep and begun.plan:
            return _swept(begun.sweep, begun.plan, begun.arguments)
        _have_hydra_run()
    return 0


def _have_hydra_run() -> None:
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(launch)()


def _swept(sweep: SweepRecord, plan: PlannedLaunch, arguments: Any) -> int:
    """Have Hydra run the jobs of a sweep, and print what became of each; returns the exit code."""
    from fednano.report.terminal.sweep_table import SweepTable

    os.environ.update(RAISES)
    logging.getLogger("hydra_plugins").setLevel(logging.ERROR)  # a job that fails has been told here
    if plan.words is None:  # a sweeper chooses the values
        plain_log_of_optuna()
    broken, interrupted = 0, False
    try:
        with lost_jobs_fail(plan.launcher, raises=plan.words is None):
            _have_hydra_run()
    except Exception as error:
        broken = _broken_off(error, plan, arguments)
    except (KeyboardInterrupt, SystemExit):
        interrupted = True
        raise
    finally:
        states = sweep.close(interrupted)
        SweepTable(sweep.folder, states).print()
    return exit_code(states) or broken


def _broken_off(error: Exception, plan: PlannedLaunch, arguments: Any) -> int:
    """Say why a sweep ended before its last job; returns the exit code."""
    if isinstance(error, JobFailedError) or str(error) == NO_TRIAL:  # each job that failed was told
        return FAILED
    if explained(error):
        return failed(error)
    if type(error).__name__ in BROKEN_POOLS:
        print(f"{REFUSAL}a process that ran jobs was killed, perhaps for its memory; run fewer at a time with "
              "hydra.launcher.n_jobs", file=sys.stderr)  # fmt: skip
        return FAILED
    if refusal := told_late(error, plan, arguments, launch):
        print(f"{REFUSAL}the sweep was broken off at values that its sweeper chose: {refusal}", file=sys.stderr)
        return BAD_INPUT
    if plan.words is not None:
        traceback.print_exception(error)
    print(f"{REFUSAL}the sweep stopped early ({type(error).__name__}: {one_line(error)})", file=sys.stderr)
    return FAILED


def _command(begun: Begun) -> int:  # noqa: PLR0911  # one for each kind of command line
    """Check the command line, and run what does not need Hydra; returns the exit code, or LAUNCH."""
    arguments = command_line()
    settle()
    if arguments.shell_completion:
        check_options(arguments)
        if script := SCRIPTS.get(" ".join(arguments.overrides)):
            print(script, end="")
            return 0
        os.environ["COMP_LINE"] = without_interpreter(os.environ.get("COMP_LINE", ""))
        return LAUNCH
    if arguments.help:
        return _help(arguments)
    if arguments.hydra_help or arguments.info or arguments.cfg:
        # Hydra composes what it shows; errors are reported here.
        shown = planned(arguments, launch).overrides
        if arguments.hydra_help:  # it is of Hydra's own node alone
            shown = tuple(word for word in shown if word.lstrip("+~").startswith("hydra"))
        hand_over(arguments, shown)
        return LAUNCH
    if arguments.experimental_rerun:
        return _rerun(arguments.experimental_rerun, begun.claims)
    if _names(arguments, "resume"):
        return _resume(arguments)
    job = _preflight(arguments, begun)
    if not rank():
        return LAUNCH
    with job.entered():
        return _ended(*run(job.cfg, Path()))


def _names(arguments: Any, key: str) -> bool:
    """Whether the command line gives this key a value."""
    return any(word.startswith(f"{key}=") and word != f"{key}=null" for word in arguments.overrides)


def _help(arguments: Any) -> int:
    """Print what the command takes, or explain the groups and keys that are named; returns the exit code."""
    named = [word for word in arguments.overrides if re.fullmatch(r"\w[\w./]*", word)]
    arguments.overrides = [word for word in arguments.overrides if word not in named]
    composed = planned(arguments, launch).jobs[0].composed
    folders = [Path(folder) for folder in (arguments.config_dir, conf_dir()) if folder]
    choices, plugins = dict(composed.hydra.runtime.choices), plugin_choices()
    if not named:  # GROUP=CHOICE names what to explain, unless a word does
        groups = with_plugins(groups_of(*folders), plugins)
        named = [group for word in arguments.overrides if (group := word.partition("=")[0].lstrip("+")) in groups]
    if not named:
        print(run_help(folders, composed, plugins))
        return 0
    from fednano.runtime.parts import RunSettings

    hints, told = record_settings(RunSettings)
    root = root_keys(read_choice(conf_dir() / "config.yaml"), {**OWN, **hints}, told)
    explained_ = Explained(
        folders=folders,
        choices=choices,
        root=root,
        composed=composed,
        plugins=plugins,
        plugin_settings=plugin_settings,
    )
    print("\n\n".join(map(explained_.text, named)))
    return 0


def _preflight(arguments: Any, begun: Begun) -> Job:
    """Compose, check and prepare every job, and claim their folder, so that bad input is found before any of them runs.

    Returns the first job. Only rank 0 claims the folder, which it alone writes.
    """
    from fednano.experiment import preflight

    continued = _names(arguments, "sweep.resume")
    typed = without(arguments.overrides, "sweep.resume")
    if continued:
        _reopen_sweep(arguments)
    plan = planned(arguments, launch)
    if plan.multirun and world() > 1:
        raise ValueError("torchrun can start only one run, got -m; remove -m")
    new = not continued and not rank()  # its folders must not be in use
    if plan.multirun:
        preflight.check_metrics(plan)
        preflight.refuse_shared_folders(plan)
    if new:
        preflight.refuse_used_folders(plan)
    jobs = [job for job in plan.jobs if not continued or not (job.folder / preflight.EVENTS).exists()]
    check = preflight.check_ends if plan.multirun and plan.words is None else preflight.check_jobs
    check(jobs, progress())
    if not rank():
        claim = preflight.claimed(plan.folder, plan.timed, plan.key)
        begun.claims.callback(claim.release)
        if new:
            preflight.refuse_used_folders(plan)  # a run may have ended there meanwhile
        begun.plan, begun.arguments = plan, arguments
        if plan.multirun:
            begun.sweep = preflight.begun(plan, claim.folder, typed, continued, arguments.config_dir)
        hand_over(arguments, plan.within(claim.folder))
    return plan.jobs[0]


def _reopen_sweep(arguments: Any) -> None:
    """Put what continues the sweep that `sweep.resume=FOLDER` names in place of what the command line says."""
    from fednano.experiment.resume import reopen_sweep

    check_options(arguments)
    _, overrides = reopen_sweep(arguments.overrides, arguments.config_dir)
    hand_over(arguments, overrides)
    check_overrides(overrides)
    if not arguments.multirun:
        arguments.multirun = True
        sys.argv.insert(1, "--multirun")


def _rerun(pickled: str, claims: ExitStack) -> int:
    """Run the job that Hydra pickled into a file once more, in a folder of its own; returns the exit code."""
    job = rerun(pickled)
    from fednano.experiment.preflight import check_jobs, claimed

    check_jobs([job], progress())
    folder = Path()
    if not rank():
        claim = claimed(job.folder, True, "hydra.run.dir")
        claims.callback(claim.release)
        folder = claim.folder
    with job.entered():
        return _ended(*run(job.cfg, folder, base=job.base))


def _resume(arguments: Any) -> int:
    """Continue the run that `resume=FOLDER` names; returns the exit code."""
    from fednano.experiment.resume import reopen

    if arguments.multirun:
        raise ValueError("resume can continue only one run, got -m; remove -m, or continue a sweep with sweep.resume")
    reopened = reopen([*search_path(arguments), *arguments.overrides])
    if reopened.completed:
        if not rank():
            print(f"fednano: resume={reopened.folder} is completed; {finish(reopened.folder)}")
            remove_left(reopened.folder)
        return 0
    outcome, asked = run(reopened.cfg, reopened.folder, reopened.snapshot)
    tell_how_to_continue(reopened.folder, outcome.status, arguments.config_dir)
    return _ended(outcome, asked)


def _ended(outcome: "Outcome", asked: EndAsked) -> int:
    """The exit code; raises the error that made the run fail, if there was one."""
    if outcome.error:
        raise outcome.error
    return asked.code if outcome.status == "interrupted" else 0


if __name__ == "__main__":
    sys.exit(main())
