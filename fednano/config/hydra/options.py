"""Checks of Hydra's own options, and of the plugins and callbacks that its node names, before Hydra uses them."""

import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.plugins.completion_plugin import CompletionPlugin
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from fednano.config.checks import check_value
from fednano.config.errors import ConfigError, one_line, shown
from fednano.config.hydra.plugins import require_cluster, require_no_database
from fednano.core.ranges import Range

ONE_AT_MOST = ("run", "multirun", "cfg", "info", "shell_completion")
COMPLETIONS = ("install", "uninstall", "query")  # what --shell-completion does, each as KEY=SHELL


def check_options(arguments: Namespace) -> None:
    """Refuse options that do not go together. Raises ConfigError."""
    chosen = [name for name in ONE_AT_MOST if getattr(arguments, name)]
    if len(chosen) > 1:
        first, second = (f"--{name.replace('_', '-')}" for name in chosen[:2])
        raise ConfigError(f"{first} must be the only one of its kind, got {second} too; remove one of them")
    for name in ("resolve", "package"):
        if getattr(arguments, name) and not arguments.cfg:
            raise ConfigError(f"--{name} must be given with --cfg, got no --cfg; add --cfg job")
    if arguments.shell_completion:
        _check_completion(arguments.overrides)


def _check_completion(overrides: Sequence[str]) -> None:
    plugins: Any = Plugins.instance().discover(CompletionPlugin)
    shells = sorted(plugin.provides() for plugin in plugins)
    given = " ".join(overrides)
    action, _, shell = given.partition("=")
    if action not in COMPLETIONS or shell not in shells:
        raise ConfigError(
            f"--shell-completion must be given with {', '.join(f'{name}=SHELL' for name in COMPLETIONS[:-1])} or "
            f"{COMPLETIONS[-1]}=SHELL alone, got {shown(given or 'none')}; use one of {', '.join(shells)} as SHELL"
        )
    if action == "query" and "COMP_LINE" not in os.environ:
        raise ConfigError(f"{given} must be asked by a shell, which sets COMP_LINE; use install={shell} instead")


def check_logging(cfg: DictConfig) -> None:
    """Refuse settings of logging that cannot be made. Hydra makes them again, with files. Raises ConfigError."""
    for key in ("hydra_logging", "job_logging"):
        with _making(f"hydra.{key}", cfg):
            node = cfg.hydra[key]
            given: Any = None if node is None else OmegaConf.to_container(node, resolve=False)
            for name, handler in ((given or {}).get("handlers") or {}).items():
                if "${" in str(handler):  # such as a file in a folder that is not there yet
                    given["handlers"][name] = {"class": "logging.NullHandler"}
            if given is not None:
                configure_log(OmegaConf.create(given), cfg.hydra.verbose)


def check_plugins(hydra: Hydra, cfg: DictConfig, task: TaskFunction, multirun: bool) -> None:
    """Refuse logging, callbacks, a launcher or a sweeper that Hydra cannot make; the latter two serve only a sweep.

    Raises ConfigError.
    """
    check_logging(cfg)
    with _making("hydra.callbacks", cfg):
        callbacks = Callbacks(cfg)
    if not multirun:
        return
    context, plugins = HydraContext(config_loader=hydra.config_loader, callbacks=callbacks), Plugins.instance()
    with _making("hydra.launcher", cfg):
        plugins.instantiate_launcher(hydra_context=context, task_function=task, config=cfg)
    require_cluster(cfg)
    with _making("hydra.sweeper", cfg):
        plugins.instantiate_sweeper(hydra_context=context, task_function=task, config=cfg)
    require_no_database(cfg)
    if "max_batch_size" in cfg.hydra.sweeper:
        check_value(
            "hydra.sweeper.max_batch_size", cfg.hydra.sweeper.max_batch_size, Annotated[int, Range(ge=1)] | None
        )


def refuse_plugins_of_sweeps(overrides: Sequence[str]) -> None:
    """Refuse a launcher or sweeper for a single run, which would begin here and now. Raises ConfigError."""
    for override in overrides:
        key, _, choice = override.lstrip("+").partition("=")
        if key in ("hydra/launcher", "hydra/sweeper") and choice != "basic":
            raise ConfigError(f"{override} must come with -m, since it serves a sweep only, got one run; add -m")


@contextmanager
def _making(key: str, cfg: DictConfig) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a plugin can raise anything
        written: Any = OmegaConf.to_container(cfg.hydra, resolve=False)
        given = written[key.partition(".")[2]]
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise ConfigError(
            f"{key} must be what Hydra can use, got {shown(given)} ({one_line(cause)}); correct it or leave it out"
        ) from error
