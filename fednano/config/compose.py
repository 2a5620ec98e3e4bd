"""Composition of a configuration from the YAML files and the overrides of a command line."""

import difflib
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import yaml  # type: ignore[import-untyped]  # Hydra reads YAML with it
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fednano.config.command_help import command_help
from fednano.config.errors import ConfigError, one_line
from fednano.config.places import conf_dir, modules_named_in
from fednano.config.targets import allow, check_targets, is_allowed

__all__ = ["SEARCH_PATH", "command_line", "compose_config", "conf_dir", "search_path", "with_hydra_flags"]

SEARCH_PATH = "hydra.searchpath"  # configuration folders in addition to fednano's own
HYDRAS = ("hydra", "hydra_plugins")  # packages whose classes Hydra's own keys may name


def compose_config(overrides: Sequence[str], config_name: str = "config", with_hydra: bool = False) -> DictConfig:
    """Compose `config_name` with `overrides`. Raises ConfigError."""
    _refuse_fragments(overrides)
    _refuse_packages(overrides)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            return compose(config_name, list(overrides), return_hydra_config=with_hydra)
        except MissingConfigException as error:
            raise ConfigError(_unknown_choice(error, overrides)) from error
        except OverrideParseException as error:
            raise ConfigError(
                f"{error.override} cannot be read as KEY=VALUE; quote values that contain spaces, commas or brackets"
            ) from error
        except ConfigCompositionException as error:
            raise ConfigError(_unknown_key(error, overrides, config_name)) from error
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(one_line(error)) from error
        except yaml.MarkedYAMLError as error:
            raise ConfigError(_torn(error)) from error


def command_line() -> Namespace:
    """Hydra's options and the overrides of this process's command line, in any order; `--config-dir` at most once.

    Modules that the line allows, by `--allow-module` or in the YAML files of a folder that it names, may be named in
    `_target_` from now on. Afterwards options stand before overrides in `sys.argv`, as Hydra needs them, without
    `--allow-module`, which is not Hydra's. Raises ConfigError.
    """
    modules, given = _allowed_on(sys.argv[1:])
    parser = get_args_parser()
    parser.error = _refused_option  # type: ignore[method-assign]
    if sum(re.fullmatch(r"(--config-dir|-cd)(=.*)?", word) is not None for word in given) > 1:
        raise ConfigError("--config-dir must be given once; put all your YAML files below one folder")
    arguments: Namespace = parser.parse_intermixed_args(given)
    options = list(given)
    for override in reversed(arguments.overrides):
        del options[len(options) - 1 - options[::-1].index(override)]
    sys.argv[1:] = [*options, *arguments.overrides]
    folders = [Path(arguments.config_dir)] if arguments.config_dir else []
    folders += [
        Path(place.removeprefix("file://")) for place in _searched(arguments.overrides) if "pkg://" not in place
    ]
    allow([*modules, *(module for folder in folders for module in modules_named_in(folder))])
    _check_hydras(arguments.overrides)
    return arguments


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
    folder = Path(arguments.config_dir).absolute()
    if not folder.is_dir():
        raise ConfigError(
            f"--config-dir must be a folder, got {arguments.config_dir}; give the folder that holds your YAML files"
        )
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return [f"{SEARCH_PATH}=['file://{quoted}']"]


def with_hydra_flags(config_name: str, command: Callable[[Sequence[str]], int]) -> int:
    """Run `command` with the command line's overrides; with --help or --cfg, print the configuration instead."""
    arguments = command_line()
    overrides = [*search_path(arguments), *arguments.overrides]
    if arguments.help:
        print(command_help(conf_dir(), config_name))
        return 0
    if arguments.cfg:
        cfg = compose_config(overrides, config_name)
        print(OmegaConf.to_yaml(cfg, resolve=bool(arguments.resolve)), end="")
        return 0
    return command(overrides)


def _refuse_fragments(overrides: Sequence[str]) -> None:
    """Refuse a file whose name begins with an underscore: it is a part that other choices include."""
    for override in overrides:
        group, _, choice = override.lstrip("+").partition("=")
        if choice.startswith("_") and (conf_dir() / group / f"{choice}.yaml").is_file():
            own = sorted(path.stem for path in (conf_dir() / group).glob("[!_]*.yaml"))
            raise ConfigError(f"{override} is a part of other choices; use one of {', '.join(own)}")


def _torn(error: yaml.MarkedYAMLError) -> str:
    """What is wrong in a YAML file, and where."""
    mark = error.problem_mark
    place = f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}" if mark else "a YAML file"
    return f"{place} cannot be read as YAML ({one_line(Exception(error.problem or error.context))}); correct the file"


def _unknown_choice(error: MissingConfigException, overrides: Sequence[str]) -> str:
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    options = [option for option in error.options or [] if not option.startswith("_")]
    if not group:
        return one_line(error)
    remedy = f"use one of {', '.join(options)}"
    if group == "model" and (depth := re.fullmatch(r"d(\d+)", choice)):
        remedy = f"set model.depth={depth[1]} instead, which takes any depth"
    return f"{group}={choice} does not exist; {remedy}"


def _unknown_key(error: ConfigCompositionException, overrides: Sequence[str], config_name: str) -> str:
    found = re.search(r"Could not override '([^'@]+)'", str(error))
    if not found:
        cause = error.__cause__ or error
        return one_line(cause if isinstance(cause, Exception) else error)
    key = found[1]
    value = next((o.partition("=")[2] for o in overrides if o.partition("=")[0].lstrip("+~") == key), "")
    # Which keys exist depends on the choices made.
    groups = {folder.name for folder in conf_dir().iterdir() if folder.is_dir()}
    choices = [o for o in overrides if o.partition("=")[0] in {*groups, SEARCH_PATH} - {key}]
    known = sorted(_keys(OmegaConf.to_container(compose_config(choices, config_name))))
    of_a_class = f"{key.rpartition('.')[0]}._target_" in known
    close = difflib.get_close_matches(key, known, n=5, cutoff=0.5)
    if of_a_class:  # it may well have an argument of this name
        close = [match for match in close if _alike(key, match)]
    if close:
        remedy = f"did you mean {close[0]}?"
    elif of_a_class:
        remedy = f"add an argument that its YAML file leaves out as +{key}={value}"
    else:
        remedy = f"list all keys with: python -m fednano.{_command(config_name)} --cfg job"
    return f"{key}={value} sets a key that does not exist; {remedy}"


def _alike(key: str, match: str) -> bool:
    """Whether the last words of two keys are alike, whatever groups they are in."""
    words = key.rpartition(".")[2], match.rpartition(".")[2]
    return difflib.SequenceMatcher(None, *words).ratio() >= 0.5


def _command(config_name: str) -> str:
    return "run" if config_name == "config" else config_name


def _keys(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, dict):
        return []
    own = [f"{prefix}{key}" for key in node]
    return own + [k for key, child in node.items() for k in _keys(child, f"{prefix}{key}.")]
