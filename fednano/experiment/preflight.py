"""Checks of all jobs of a command line, and the claim of their folder, before any of them runs."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from fednano.config.jobs import Job, PlannedLaunch
from fednano.coordination.memory import MemoryStore
from fednano.core.claim import Claim, ClaimedError, claim, claim_new
from fednano.core.files import require_room, require_writable
from fednano.core.progress import Progress
from fednano.experiment.experiment import Experiment
from fednano.experiment.resume import adopt
from fednano.experiment.sweep import SweepRecord, metrics_of
from fednano.runtime.play_through import check_traces
from fednano.strategy.base import summarized

EVENTS, SWEEP = "events.jsonl", "multirun.yaml"  # what only the folder of a run has, and only that of a sweep
REMEDY = "choose another folder or remove that one"


def check_jobs(jobs: Sequence[Job], progress: Progress) -> None:
    """Check and prepare every job. Raises ValueError for bad input."""
    experiments = []
    for job in jobs:
        with job.entered():
            experiments.append(Experiment(job.cfg, job.base))
    groups = [experiment.groups for experiment in experiments]
    for each in groups:
        summarized(each.strategy, 0)  # or the run would fail at its end
    for line in dict.fromkeys(line for g in groups for line in (*g.volatility.described, *g.energy.described)):
        progress.note(line)
    for job, experiment in zip(jobs, experiments, strict=True):
        with job.entered():
            check_traces(experiment.parts(experiment.prepare(progress), MemoryStore()), progress)


def check_ends(jobs: Sequence[Job], progress: Progress) -> None:
    """Check jobs that a sweeper may choose, with the first of their values and with the last.

    Raises ValueError if both are bad for the same key: then it is not the values between that matter.
    """
    refused: list[ValueError] = []
    for job in jobs:
        try:
            check_jobs([job], progress)
            return
        except ValueError as error:  # as a trial it would be one that is refused
            refused.append(error)
    if len({str(error).partition(" ")[0].partition("=")[0] for error in refused}) == 1:
        raise refused[0]


def check_metrics(launch: PlannedLaunch) -> None:
    """Raise ValueError unless a sweep's jobs return one figure for each direction of its sweeper."""
    cfg = launch.jobs[0].composed
    directions = OmegaConf.select(cfg, "hydra.sweeper.direction")
    wanted = len(directions) if OmegaConf.is_list(directions) else 1
    given = metrics_of(cfg)
    if launch.words is None and directions is not None and len(given) != wanted:
        raise ValueError(
            f"sweep.metrics must name as many metrics as hydra.sweeper.direction has directions ({wanted}), got "
            f"[{','.join(given)}]; change either one"
        )


def begun(
    launch: PlannedLaunch, folder: Path, typed: Sequence[str], continued: bool, config_dir: str | None
) -> SweepRecord:
    """Record in the folder of a sweep what is about to be launched."""
    record = SweepRecord(folder)
    if continued and not record.is_recorded():
        adopt(record, [(job.folder, words) for job, words in zip(launch.jobs, launch.words or (), strict=False)])
    record.begin(launch.given, typed, launch.words, continued, config_dir)
    return record


def refuse_used_folders(launch: PlannedLaunch) -> None:
    """Raise ValueError if the launch would write into the folder of a run, or twice into one folder."""
    require_writable(launch.key, launch.folder)
    require_room(launch.key, launch.folder)
    if launch.timed:
        return
    recorded = (launch.folder / SWEEP).exists() or SweepRecord(launch.folder).is_recorded()
    if launch.multirun and recorded and next(launch.folder.rglob(EVENTS), None):
        raise ValueError(
            f"{launch.key} must not hold the results of a sweep, got {launch.folder}; continue it with "
            f"sweep.resume={launch.folder}, {REMEDY}"
        )
    for job in launch.jobs:
        refuse_used_folder(job.folder, launch.key)


def refuse_shared_folders(launch: PlannedLaunch) -> None:
    """Raise ValueError if two jobs of a sweep have the same folder; those chosen later say so themselves."""
    if launch.words is None:
        return
    folders = [job.folder for job in launch.jobs]
    for number, folder in enumerate(folders):
        if folder in folders[:number]:
            raise ValueError(
                f"hydra.sweep.subdir must give each job a folder of its own, got {folder} twice; use, for example, "
                "hydra.sweep.subdir='${hydra.job.num}'"
            )


def refuse_used_folder(folder: Path, key: str) -> None:
    """Raise ValueError if `folder`, which the configuration names under `key`, holds a run."""
    if "${" in str(folder.absolute()):  # Hydra would take it for a key
        raise ValueError(f"{key} must not have ${{ in its path, got {folder.absolute()}; choose another folder")
    if (folder / EVENTS).exists():
        raise ValueError(f"{key} must not hold a run, got {folder}; {REMEDY}")


def claimed(folder: Path, timed: bool, key: str) -> Claim:
    """Claim a folder, or if it is `timed` and exists, one beside it. Raises ValueError."""
    try:
        return claim_new(folder) if timed else claim(folder)
    except ClaimedError as error:
        raise ValueError(
            f"{key} must not be in use, got {folder}, which is written by another process ({error}); choose another "
            "folder or wait for it"
        ) from None
    except OSError as error:
        raise ValueError(
            f"{key} must be a folder that can be written, got {folder} ({error.strerror}); choose another one"
        ) from error
