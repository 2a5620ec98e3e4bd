"""The ServerApp of the app bundle: it builds an experiment and runs it on the server of its rounds."""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console as RichConsole

from fednano.config.compose import compose_config
from fednano.config.hydra.node import NOW
from fednano.coordination.memory import MemoryStore
from fednano.core.claim import claim_new
from fednano.core.clock import Clock
from fednano.core.progress import Silent
from fednano.experiment.experiment import Experiment
from fednano.flower.compat.simulation import is_simulated
from fednano.flower_app.hosted_simulation import Grid, HostedSimulation
from fednano.flower_app.run_config import hydra_overrides
from fednano.process.environment import QUIET
from fednano.process.surroundings import settle
from fednano.process.temporary import temporary_folder
from fednano.runtime.deployment import server as live
from fednano.runtime.deployment.deployment import Deployment
from fednano.runtime.deployment.server import Launch, RunConfig
from fednano.runtime.ray.simulation import Simulation
from fednano.runtime.run_folder import run_in_folder

WIDTH = 120  # of lines in Flower's log


def build(folder: Path, run: str, clock: Clock) -> Launch:
    """The live run described by `config.yaml` in a run folder. Raises ValueError for bad input."""
    cfg = OmegaConf.load(folder / "config.yaml")
    assert isinstance(cfg, DictConfig)
    experiment = Experiment(cfg)
    runtime = experiment.runtime
    if not isinstance(runtime, Deployment):
        raise ValueError(
            f"runtime must be deployment in {folder}/config.yaml, got {runtime.name}; use runtime=deployment"
        )
    store = experiment.groups.coordination.store(run, clock, experiment.settings.names)
    parts = experiment.parts(experiment.prepare(Silent()), store)
    return Launch(
        name=cfg.name,
        runtime=runtime.name,
        parts=parts,
        store=store,
        logger=experiment.groups.logger,
        config=experiment.resolved(cfg),
        transfer_s=runtime.transfer_s,
        min_clients=runtime.least_clients(parts.settings.clients),
        run=run,
        elsewhere=runtime.elsewhere(parts.settings.names),
    )


def begin(grid: Grid, run_config: RunConfig) -> None:
    """Run an experiment for Flower's own command, on its simulation or on running nodes.

    The run folder is `hydra.run.dir`, as for every run. Raises ValueError for bad input before the folder is made, or
    the error that made the run fail.
    """
    os.environ.update(QUIET)
    settle()
    simulated = is_simulated(grid)
    folder, cfg = composed(hydra_overrides(run_config, simulated))
    experiment = Experiment(cfg)
    out = RichConsole(width=WIDTH)
    if simulated:
        _simulate(grid, folder, cfg, experiment, out)
        return
    with _claimed(folder) as own, temporary_folder() as control:
        OmegaConf.save(OmegaConf.create(experiment.resolved(cfg)), own / "config.yaml")
        live.serve(grid, own, control, secrets.token_hex(8), False, build, out)


@contextmanager
def _claimed(folder: Path) -> Iterator[Path]:
    """The folder, made and claimed within the block, or one beside it if another run has just made it."""
    claim = claim_new(folder)
    try:
        yield claim.folder
    finally:
        claim.release()


def composed(overrides: Sequence[str]) -> tuple[Path, DictConfig]:
    """The run folder and the configuration composed from `overrides`. Raises ValueError."""
    cfg = compose_config(overrides, with_hydra=True)
    folder = Path(cfg.hydra.run.dir).absolute()
    if cfg.resume is not None:
        raise ValueError(
            f"resume must be null with flwr run, got {cfg.resume}; use python -m fednano.run resume={cfg.resume}"
        )
    timed = NOW in str(OmegaConf.to_container(cfg.hydra.run, resolve=False)["dir"])  # type: ignore[index,call-overload]
    if folder.exists() and not timed:
        raise ValueError(f"hydra.run.dir={folder} exists already; choose another folder or remove it")
    plain = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    assert isinstance(plain, DictConfig)
    return folder, plain


def _simulate(grid: Grid, folder: Path, cfg: DictConfig, experiment: Experiment, out: RichConsole) -> None:
    assert isinstance(experiment.runtime, Simulation), "the keys name the runtime"
    parts = experiment.parts(experiment.prepare(Silent()), MemoryStore())
    runtime = HostedSimulation(experiment.runtime, grid)
    runtime.check(parts)
    config = experiment.resolved(cfg)
    with _claimed(folder) as own:
        outcome = run_in_folder(own, cfg.name, runtime, parts, experiment.groups.logger, config, out=out)
    if outcome.error:
        raise outcome.error


app = live.make_app(build, begin)
