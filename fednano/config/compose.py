"""Composition of a configuration from the YAML files and the overrides of a command line."""

import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from fednano.config.command_help import command_help
from fednano.config.errors import ConfigError, encodable, shown
from fednano.config.hydra.references import require_resolvable
from fednano.config.hydra.refusals import SEARCH_PATH, refusals, refuse_no_choices
from fednano.config.moved import with_current_keys
from fednano.config.places import conf_dir, modules_named_in
from fednano.config.quoting import quoted, quoted_overrides
from fednano.config.targets import allow, check_targets, is_allowed

__all__ = ["SEARCH_PATH", "command_line", "compose_config", "conf_dir", "search_path", "with_hydra_flags"]

FOR_RUN = ("multirun", "info", "shell_completion", "package", "experimental_rerun", "config_name", "config_path")
HYDRAS = ("hydra", "hydra_plugins")  # packages whose classes Hydra's own keys may name


def compose_config(overrides: Sequence[str], config_name: str = "config", with_hydra: bool = False) -> DictConfig:
    """Compose `config_name` with `overrides`. Raises ConfigError."""
    overrides = with_current_keys(quoted_overrides(overrides))
    with refusals(overrides, config_name, lambda choices: _composed(choices, config_name)):
        _refuse_packages(overrides)
        refuse_no_choices(overrides, config_name)
        return _composed(overrides, config_name, with_hydra)


def _composed(overrides: list[str], config_name: str, with_hydra: bool = False) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(config_name, overrides, return_hydra_config=with_hydra)


def command_line() -> Namespace:
    """Hydra's options and the overrides of this process's command line, in any order; `--config-dir` at most once.

    Modules that the line allows, by `--allow-module` or in the YAML files of a folder that it names, may be named in
    `_target_` from now on. Afterwards options stand before overrides in `sys.argv`, as Hydra needs them, without
    `--allow-module`, which is not Hydra's. Raises ConfigError.
    """
    for word in sys.argv[1:]:
        if not encodable(word):
            key, equals, value = word.partition("=")
            key, value = (key, value) if equals and encodable(key) else ("an argument", word)
            raise ConfigError(f"{key} must be text in UTF-8, got {shown(ascii(value))}; write it in UTF-8")
    modules, given = _allowed_on(sys.argv[1:])
    parser = get_args_parser()
    parser.error = _refused_option  # type: ignore[method-assign]
    if sum(re.fullmatch(r"(--config-dir|-cd)(=.*)?", word) is not None for word in given) > 1:
        raise ConfigError("--config-dir must be given once; put all your YAML files below one folder")
    arguments: Namespace = parser.parse_intermixed_args(given)
    options = list(given)
    for override in reversed(arguments.overrides):
        del options[len(options) - 1 - options[::-1].index(override)]
    if options and options[-1] in ("--info", "-i"):
        options.append(arguments.info)  # it would take an override for its value
    sys.argv[1:] = [*options, *arguments.overrides]
    folders = [Path(arguments.config_dir)] if arguments.config_dir else []
    folders += [
        Path(place.removeprefix("file://")) for place in _searched(arguments.overrides) if "pkg://" not in place
    ]
    allow([*modules, *(module for folder in folders for module in modules_named_in(folder))])
    check_overrides(arguments.overrides)
    return arguments


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse overrides that would have Hydra import what is not allowed. Raises ConfigError."""
    _refuse_packages(overrides)
    _check_hydras(overrides)


def hand_over(arguments: Namespace, overrides: Sequence[str]) -> None:
    """Put `overrides` in place of those in `arguments` and, for Hydra, in `sys.argv`, where they come last."""
    sys.argv[len(sys.argv) - len(arguments.overrides) :] = overrides
    arguments.overrides = list(overrides)


def _allowed_on(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The values of `--allow-module`, and the other words of a command line. Raises ConfigError without a value."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.error = _refused_option  # type: ignore[method-assign]
    parser.add_argument("--allow-module", action="append", default=[])
    known, rest = parser.parse_known_args(words)
    return known.allow_module, rest


def _searched(overrides: Sequence[str]) -> list[str]:
    """The entries of `hydra.searchpath` in overrides; of a list that Hydra cannot read, none."""
    found: list[str] = []
    for override in overrides:
        if override.lstrip("+").partition("=")[0] == SEARCH_PATH:
            with suppress(HydraException):
                value = OverridesParser.create().parse_override(override).value()
                found += map(str, value if isinstance(value, list) else [value])
    return found


def _refuse_packages(overrides: Sequence[str]) -> None:
    """Refuse to search a package that is not allowed, since Hydra imports it."""
    for place in _searched(overrides):
        scheme, _, package = place.partition("://")
        if scheme == "pkg" and not is_allowed(package.replace("/", ".")):
            raise ConfigError(
                f"{SEARCH_PATH} must name folders or allowed packages, got {place}; add --allow-module "
                f"{package.replace('/', '.')}"
            )


def _check_hydras(overrides: Sequence[str]) -> None:
    """Check the classes that overrides of Hydra's own keys name."""
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if key.partition(".")[0] == "hydra" and "_target_" in override:
            with suppress(HydraException):
                value = OverridesParser.create().parse_override(override).value()
                where, _, last = key.rpartition(".")
                check_targets({last: value}, where, also=HYDRAS)


def _refused_option(message: str) -> NoReturn:
    raise ConfigError(f"{message}; list all options with --hydra-help")


def search_path(arguments: Namespace) -> list[str]:
    """The folder given by --config-dir, as a list of one override; an empty list without that option.

    Raises ConfigError if the folder does not exist.
    """
    if arguments.config_dir is None:
        return []
    folder = require_config_dir(arguments.config_dir)
    return [f"{SEARCH_PATH}=[{quoted(f'file://{folder}')}]"]


def require_config_dir(given: str) -> Path:
    """The folder that --config-dir names. Raises ConfigError if it does not exist."""
    folder = Path(given).absolute()
    if not folder.is_dir():
        raise ConfigError(f"--config-dir must be a folder, got {given}; give the folder that holds your YAML files")
    return folder


def with_hydra_flags(config_name: str, command: Callable[[Sequence[str]], int]) -> int:
    """Run `command` with the command line's overrides; with --help or --cfg, print the configuration instead."""
    arguments = command_line()
    if arguments.hydra_help:
        print(Hydra.format_args_help(get_args_parser()))
        return 0
    for name in FOR_RUN:
        if getattr(arguments, name):
            raise ConfigError(f"--{name.replace('_', '-')} is an option of fednano.run only; remove it")
    overrides = [*search_path(arguments), *arguments.overrides]
    if arguments.help:
        print(command_help(conf_dir(), config_name))
        return 0
    if arguments.cfg:
        cfg = compose_config(overrides, config_name)
        if arguments.resolve:
            require_resolvable(cfg)
        print(OmegaConf.to_yaml(cfg, resolve=bool(arguments.resolve)), end="")
        return 0
    return command(overrides)
