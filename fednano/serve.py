"""The ServerApp of a live run, which the app bundle names: joins an experiment with the server of its rounds."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from fednano.clock import Clock
from fednano.data.progress import Silent
from fednano.experiment import Experiment
from fednano.runtime import live
from fednano.runtime.deployment import Deployment
from fednano.runtime.live import Launch


def build(folder: Path, run: str, clock: Clock) -> Launch:
    """What `config.yaml` in a run folder says. Raises ValueError for bad input."""
    cfg = OmegaConf.load(folder / "config.yaml")
    assert isinstance(cfg, DictConfig)
    experiment = Experiment(cfg)
    runtime = experiment.runtime
    if not isinstance(runtime, Deployment):
        raise ValueError(f"runtime={runtime.name} of {folder}/config.yaml is not served live; use runtime=deployment")
    board = experiment.groups["coordination"].board(run, clock)
    parts = experiment.parts(experiment.prepare(Silent()), board)
    return Launch(
        cfg.name,
        runtime.name,
        parts,
        board,
        experiment.groups["logger"],
        experiment.resolved(cfg),
        runtime.transfer_s,
        runtime.least_clients(parts.settings.clients),
        run,
        runtime.elsewhere(parts.settings.names),
    )


app = live.make_app(build)
