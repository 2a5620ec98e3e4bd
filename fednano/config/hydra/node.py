"""Hydra's own node of a composed configuration: the folders it names and what it sets for a job, checked."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from fednano.config import loggers
from fednano.config.checks import check_value
from fednano.config.errors import ConfigError, shown
from fednano.config.hydra.references import cannot_resolve

_REFERENCE = re.compile(r"\$\{[^{}]*\}")
NOW = "${now:"  # what a folder named after the time has in its name
# Files and folders of a run, in its folder.
OWN = ("config.yaml", "events.jsonl", "metrics.jsonl", "metrics.csv", "summary.json", "energy.json", "evaluation.json",
       "origin.json", "report.html", ".claim", "checkpoints", "model", "logs", "flower.log", "console.log", "ray",
       "tensorboard", "trackio.json", "wandb")  # fmt: skip
SWEEP_FOLDER, RECORD = ".sweep", "FEDNANO_SWEEP"  # the record of a sweep, and the variable that tells jobs whose it is
OF_SWEEP = (".claim", ".submitit", "multirun.yaml", "optimization_results.yaml", SWEEP_FOLDER)  # in a sweep's folder


def current_job() -> Any:
    """Hydra's own node of the job that runs."""
    return HydraConfig.get()


def is_of_sweep(job: Any) -> bool:
    """Whether a job, by Hydra's own node, is one of a sweep."""
    return bool(job.mode == RunMode.MULTIRUN)


def folder_of(cfg: DictConfig, *keys: str) -> Path:
    """The folder that keys of Hydra's node name, one within the other; it becomes the job's in that node."""
    names = [value_of(cfg, key) for key in keys]
    for key, name in zip(keys, names, strict=True):
        check_value(f"hydra.{key}", name, str)
        if not name:
            raise ConfigError(f"hydra.{key} must name a folder, got nothing; name one or leave the key out")
    if len(names) > 1:
        _check_subdir(names[-1])
    folder = Path(*names).absolute()
    with read_write(cfg.hydra.runtime), open_dict(cfg.hydra.runtime):
        cfg.hydra.runtime.output_dir = str(folder)
    return folder


def value_of(cfg: DictConfig, key: str) -> Any:
    """The plain value of a key of Hydra's node. Raises ConfigError if it refers to what does not exist."""
    with hydra_config(cfg):
        try:
            value = OmegaConf.select(cfg.hydra, key, throw_on_missing=True)
            return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except (OmegaConfBaseException, RecursionError) as error:
            raise ConfigError(cannot_resolve(error, cfg, f"hydra.{key}")) from error


def check_job(cfg: DictConfig, helps: bool = False) -> None:
    """Refuse references to values that do not exist in what Hydra sets up for a job, or shows as its help.

    Refuses also a list of loggers that are not all in the configuration.
    """
    for key in ("verbose", "job.name", "job.chdir", "job.env_set", "job.env_copy", *(["help"] if helps else ())):
        value_of(cfg, key)
    words: Any = OmegaConf.to_container(cfg.hydra.overrides.task, resolve=False)
    for word in words:
        chosen = OverridesParser.create().parse_override(word)
        if chosen.key_or_group == loggers.GROUP and isinstance(names := chosen.value(), list):
            loggers.check_all_there(
                OmegaConf.to_container(cfg.get(loggers.GROUP) or OmegaConf.create()),
                list(dict.fromkeys(map(str, names))),
            )


def check_output_subdir(cfg: DictConfig) -> None:
    """Refuse a folder of Hydra's own files outside the run folder, or of a name that the run uses."""
    name = value_of(cfg, "output_subdir")
    if name is None:
        return
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts:
        raise ConfigError(f"hydra.output_subdir must be a folder in the run folder, got {name}; use one such as .hydra")
    if parts[0] in OWN:
        raise ConfigError(
            f"hydra.output_subdir must not be a name of the run's own, got {name}; use one such as .hydra"
        )


def is_timed(node: DictConfig) -> bool:
    """Whether the folder of a node for runs or sweeps is named after the time."""
    return NOW in _written(node, "dir")


def _written(node: DictConfig, key: str) -> str:
    written = OmegaConf.to_container(node, resolve=False)
    assert isinstance(written, Mapping)
    return str(written[key])


@contextmanager
def hydra_config(cfg: DictConfig) -> Iterator[None]:
    """What `${hydra:…}` refers to in the block."""
    held, before = HydraConfig.instance(), HydraConfig.instance().cfg
    held.set_config(cfg)
    try:
        yield
    finally:
        held.cfg = before


def check_unresolved_subdir(cfg: DictConfig) -> None:
    """As far as can be told before a sweeper chooses values, refuse a job's folder that is not inside the sweep's."""
    _check_subdir(_REFERENCE.sub("x", _written(cfg.hydra.sweep, "subdir")))


def _check_subdir(given: str) -> None:
    """Refuse a job's folder that is not inside the sweep's, where its checks and its claim do not reach."""
    path = Path(given)
    if not path.parts or path.is_absolute() or ".." in path.parts or path.parts[0] in OF_SWEEP:
        raise ConfigError(
            f"hydra.sweep.subdir must be a folder in the sweep's, got {shown(given)}; use, for example, "
            "hydra.sweep.subdir='${hydra.job.num}'"
        )
