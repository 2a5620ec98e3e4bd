"""Hydra's plug-ins for sweeps: the extras that bring them, and what a sweep of fednano's asks of them."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from fednano.config.errors import ConfigError, shown

# The choices that a package brings which is not part of Hydra: package, and extra of fednano.
PACKAGES = {
    "hydra/launcher=joblib": ("hydra-joblib-launcher", "joblib"),
    "hydra/launcher=slurm": ("hydra-submitit-launcher", "submitit"),
    "hydra/launcher=submitit_local": ("hydra-submitit-launcher", "submitit"),
    "hydra/launcher=submitit_slurm": ("hydra-submitit-launcher", "submitit"),
    "hydra/sweeper=optuna": ("hydra-optuna-sweeper", "optuna"),
}
JOBLIB, SUBMITIT = "hydra_plugins.hydra_joblib_launcher.", "hydra_plugins.hydra_submitit_launcher."
OPTUNA = "hydra_plugins.hydra_optuna_sweeper."
EVERY_FAILURE = 1.0  # share of a batch's trials that may fail


def lacking(choice: str) -> str | None:
    """What to do about a choice that does not exist because its package is not installed; None for other choices."""
    if choice not in PACKAGES:
        return None
    package, extra = PACKAGES[choice]
    return f"{choice} needs {package}, which is not installed; install it with: pip install 'fednano[{extra}]'"


def launcher_of(cfg: DictConfig) -> str:
    """The class of the launcher in a composed configuration."""
    return str(OmegaConf.select(cfg, "hydra.launcher._target_"))


def settings(cfg: DictConfig, given: Sequence[str], jobs: int | None) -> list[str]:
    """Overrides of a sweep's launcher and sweeper, in addition to those that were given.

    joblib runs no more jobs at a time than there are, so that each gets its share of the cores. A sweeper goes on after
    a trial that failed, and its sampler's draws are those of `seed`, so that a sweep can be continued.

    Args:
        cfg: what Hydra composes before it chooses any swept value.
        given: the overrides on the command line.
        jobs: how many there are; None: a sweeper chooses them later.
    """
    found: dict[str, Any] = {}
    launcher, sweeper = cfg.hydra.launcher, cfg.hydra.sweeper
    if launcher_of(cfg).startswith(JOBLIB):
        found["hydra.launcher.n_jobs"] = _at_a_time(launcher.n_jobs, jobs or OmegaConf.select(sweeper, "n_jobs"))
    if OmegaConf.select(sweeper, "max_failure_rate") == 0:
        found["hydra.sweeper.max_failure_rate"] = EVERY_FAILURE
    sampler = OmegaConf.select(sweeper, "sampler")
    if sampler is not None and "seed" in sampler and sampler.seed is None:
        found["hydra.sweeper.sampler.seed"] = OmegaConf.select(cfg, "seed", default=0)
    typed = {word.partition("=")[0].lstrip("+") for word in given} - {"hydra.launcher.n_jobs"}
    return [f"{key}={value}" for key, value in found.items() if key not in typed]


def require_cluster(cfg: DictConfig) -> None:
    """Refuse SLURM's launcher on a machine that cannot submit jobs. Raises ConfigError."""
    missing = [program for program in ("sbatch", "srun") if shutil.which(program) is None]
    if launcher_of(cfg) == f"{SUBMITIT}submitit_launcher.SlurmLauncher" and missing:
        raise ConfigError(
            f"hydra/launcher=slurm must be given where SLURM's {missing[0]} is, got a machine without it; go to the "
            "cluster's login node, or use hydra/launcher=joblib"
        )


def require_no_database(cfg: DictConfig) -> None:
    """Refuse a study of Optuna's in a database: Optuna 2 cannot use the SQLAlchemy that Flower needs.

    Raises ConfigError.
    """
    storage = OmegaConf.select(cfg, "hydra.sweeper.storage")
    if str(cfg.hydra.sweeper._target_).startswith(OPTUNA) and storage is not None:
        raise ConfigError(
            f"hydra.sweeper.storage must be null, got {shown(storage)}, which Optuna 2 cannot write beside Flower's "
            "SQLAlchemy; leave it out, and continue a sweep with sweep.resume=FOLDER"
        )


def _at_a_time(asked: int, jobs: int | None) -> int:
    """How many jobs joblib runs at the same time; `asked` as joblib reads it: -1 is one per core."""
    from joblib import cpu_count

    wanted = asked if asked > 0 else max(1, cpu_count() + 1 + asked)
    return min(wanted, jobs or wanted)


def plain_log_of_optuna() -> None:
    """Let Optuna print its warnings only, and without codes for colours, which it would also write into a file."""
    with suppress(ImportError):
        from optuna.logging import disable_default_handler, enable_propagation, set_verbosity

        disable_default_handler()
        enable_propagation()
        set_verbosity(logging.WARNING)


@contextmanager
def lost_jobs_fail(launcher: str, raises: bool) -> Iterator[None]:
    """A block in which a cluster's job whose process is lost is a job that failed, and the others are waited for.

    With `raises`, its result raises the error, for sweepers that count failures.
    """
    if not launcher.startswith(SUBMITIT):
        yield
        return
    from submitit.core.core import Job
    from submitit.core.utils import FailedJobError, UncompletedJobError

    waited = Job.results  # in the class itself, since the plug-in waits for its jobs by this one method

    def results(job: Any) -> list[Any]:
        try:
            return list(waited(job))
        except (FailedJobError, UncompletedJobError) as error:
            lost = JobReturn()
            lost.status = JobStatus.FAILED if raises else JobStatus.COMPLETED
            lost.return_value = error if raises else None
            return [lost]

    Job.results = results
    try:
        yield
    finally:
        Job.results = waited
