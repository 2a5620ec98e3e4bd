"""The command that runs an experiment: composes, checks, prepares, launches and summarises it.

    python -m fednano.run model=d4 strategy=fedavg volatility=none clients=8

Everything that depends on the user's input is checked before a run folder exists.
"""

import os
import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from fednano.config.compose import command_line, compose_config, conf_dir, search_path
from fednano.config.errors import INTERRUPTED, guarded, refuse
from fednano.core.event_log import InUseError
from fednano.core.interrupts import asked_to_end
from fednano.core.ranks import rank, world
from fednano.process.environment import QUIET

if TYPE_CHECKING:
    from fednano.core.progress import Progress
    from fednano.runtime.session import Outcome
    from fednano.training.checkpoint import Snapshot

LAUNCH = -1  # no exit code: Hydra is to run the jobs


def main() -> int:
    """Run the command; returns its exit code."""
    os.environ.update(QUIET)
    code = guarded(_command)
    if code == LAUNCH:
        # Hydra exits by itself if it fails or is interrupted.
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(launch)()
        return 0
    return code


def _command() -> int:
    """Check the command line, and run what does not need Hydra; returns the exit code, or LAUNCH."""
    arguments = command_line()
    shows_only = arguments.help or arguments.hydra_help or arguments.info or arguments.shell_completion
    if not shows_only:
        if not arguments.cfg and any(override.startswith("resume=") for override in arguments.overrides):
            return _resume(arguments)
        _preflight(arguments)
        if rank() and not arguments.cfg:
            overrides = [*search_path(arguments), *arguments.overrides]
            return _ended(_run(compose_config(overrides), Path()))
    return LAUNCH


def _preflight(arguments: Any) -> None:
    """Compose, check and prepare every job, so that bad input is found before any of them runs."""
    if arguments.multirun and world() > 1:
        raise ValueError("torchrun can start only one run, got -m; remove -m")
    jobs, own = _jobs(arguments.overrides, bool(arguments.multirun)), search_path(arguments)
    composed = [compose_config([*own, *job], arguments.config_name or "config", with_hydra=True) for job in jobs]
    if arguments.cfg:
        return
    from fednano.coordination.memory import MemoryStore
    from fednano.experiment.experiment import Experiment
    from fednano.runtime.play_through import check_traces

    experiments = []
    for cfg in composed:
        if not arguments.multirun and not rank():
            _refuse_used_folder(Path(cfg.hydra.run.dir))
        experiments.append(Experiment(_without_hydra(cfg)))
    progress = _progress()
    groups = [experiment.groups for experiment in experiments]
    for line in dict.fromkeys(line for g in groups for line in (*g.volatility.described, *g.energy.described)):
        progress.note(line)
    for experiment in experiments:
        check_traces(experiment.parts(experiment.prepare(progress), MemoryStore()))


def _progress() -> "Progress":
    """The progress display of the preparation; only rank 0 shows one."""
    from fednano.core.progress import Silent
    from fednano.report.console import RichProgress

    return Silent() if rank() else RichProgress()


def _jobs(overrides: Sequence[str], multirun: bool) -> list[list[str]]:
    """The overrides of each job. Other sweepers than Hydra's own choose them later, and check each job as it starts."""
    if not multirun or _chosen_late(overrides):
        return [list(overrides)]
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    batches: Any = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return [list(job) for batch in batches for job in batch]


def _chosen_late(overrides: Sequence[str]) -> bool:
    """Whether a sweeper other than Hydra's own chooses the values of the jobs."""
    return any(override.startswith("hydra/sweeper") for override in overrides)


def _withdraw(folder: Path, held: Collection[Path], hydras: str | None) -> None:
    """Remove the files of a job that was refused before its first event, and its folder if it was made for the job.

    `held` are the files that were there before; `hydras` is the sub-folder of Hydra's own files.
    """
    event_log = folder / "events.jsonl"
    if event_log.exists() and event_log.stat().st_size:
        return
    for path in set(folder.iterdir()) - set(held):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if {path.name for path in held} <= {hydras}:
        shutil.rmtree(folder)
        for parent in folder.absolute().parents:
            if Path.cwd() not in parent.parents or any(parent.iterdir()):
                break
            parent.rmdir()


def _refuse_used_folder(folder: Path) -> None:
    if (folder / "events.jsonl").exists():
        raise ValueError(f"hydra.run.dir must not hold a run, got {folder}; choose another folder or remove that one")


def _without_hydra(cfg: DictConfig) -> DictConfig:
    plain = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    assert isinstance(plain, DictConfig)
    return plain


def launch(cfg: DictConfig) -> float | None:
    """One job inside its run folder; returns the validation bpb, for sweepers."""
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    held = frozenset(folder.iterdir())
    try:
        outcome = _run(cfg, folder, unforeseen=_chosen_late(job.overrides.hydra))
    except InUseError as error:
        sys.exit(refuse(error))
    except ValueError as error:
        _withdraw(folder, held, job.output_subdir)
        sys.exit(refuse(error))
    if outcome.error:
        raise outcome.error
    if outcome.status == "interrupted":
        sys.exit(INTERRUPTED)
    return outcome.progress.val_bpb


def _resume(arguments: Any) -> int:
    """Continue the run that `resume=FOLDER` names; returns the exit code."""
    from fednano.experiment.resume import reopen

    if arguments.multirun:
        raise ValueError("resume can continue only one run, got -m; remove -m")
    run = reopen(arguments.overrides)
    if run.completed:
        if not rank():
            print(f"fednano: resume={run.folder} is completed; there is nothing to do")
        return 0
    return _ended(_run(run.cfg, run.folder, run.snapshot))


def _ended(outcome: "Outcome") -> int:
    """The exit code; raises the error that made the run fail, if there was one."""
    if outcome.error:
        raise outcome.error
    return INTERRUPTED if outcome.status == "interrupted" else 0


def _run(cfg: DictConfig, folder: Path, resume: "Snapshot | None" = None, unforeseen: bool = False) -> "Outcome":
    """Run one job. Raises ValueError for bad input only; errors while training are in the outcome.

    `unforeseen` jobs have not been checked yet, so a trace that ends before the run does is refused here.
    """
    from fednano.coordination.memory import MemoryStore

    store = MemoryStore()
    # Under torchrun a signal arrives a second time, passed on by torchrun, which kills a rank after half a minute.
    with asked_to_end(store.request_stop, again=world() > 1):
        from fednano.experiment.experiment import Experiment
        from fednano.runtime.play_through import check_traces
        from fednano.runtime.run_folder import run_in_folder

        experiment = Experiment(cfg)
        parts = experiment.parts(experiment.prepare(_progress()), store)
        if unforeseen:
            check_traces(parts)
        return run_in_folder(
            folder, cfg.name, experiment.runtime, parts, experiment.groups.logger, experiment.resolved(cfg), resume
        )


if __name__ == "__main__":
    sys.exit(main())
