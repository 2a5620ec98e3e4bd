"""Composition of a configuration from the YAML files and the overrides of a command line."""

import difflib
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import yaml  # type: ignore[import-untyped]  # Hydra reads YAML with it
from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fednano.config.command_help import command_help
from fednano.config.errors import ConfigError, one_line, shown
from fednano.config.places import conf_dir, modules_named_in
from fednano.config.quoting import quoted, quoted_overrides
from fednano.config.targets import allow, check_targets, is_allowed

__all__ = ["SEARCH_PATH", "command_line", "compose_config", "conf_dir", "search_path", "with_hydra_flags"]

SEARCH_PATH = "hydra.searchpath"  # configuration folders in addition to fednano's own
FOR_RUN = ("multirun", "info", "shell_completion", "package", "experimental_rerun", "config_name", "config_path")
HYDRAS = ("hydra", "hydra_plugins")  # packages whose classes Hydra's own keys may name


def compose_config(overrides: Sequence[str], config_name: str = "config", with_hydra: bool = False) -> DictConfig:
    """Compose `config_name` with `overrides`. Raises ConfigError."""
    overrides = quoted_overrides(overrides)
    with refusals(overrides, config_name, lambda choices: _composed(choices, config_name)):
        _refuse_packages(overrides)
        refuse_no_choices(overrides)
        return _composed(overrides, config_name, with_hydra)


def _composed(overrides: list[str], config_name: str, with_hydra: bool = False) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(config_name, overrides, return_hydra_config=with_hydra)


@contextmanager
def refusals(
    overrides: Sequence[str], config_name: str, recompose: Callable[[list[str]], DictConfig]
) -> Iterator[None]:
    """Turn the errors of composing `config_name` with `overrides` into a ConfigError, which is one line.

    `recompose` composes it with fewer overrides, to find out which keys there are and which override is at fault.
    """
    _refuse_fragments(overrides)
    try:
        yield
    except ConfigError:
        raise
    except MissingConfigException as error:
        raise ConfigError(_unknown_choice(error, overrides)) from error
    except OverrideParseException as error:
        letters = "" if str(error.override).isascii() else ", letters outside ASCII"
        remedy = f"quote values that contain spaces, commas{letters} or brackets"
        raise ConfigError(f"{shown(error.override)} cannot be read as KEY=VALUE; {remedy}") from error
    except ConfigCompositionException as error:
        raise ConfigError(_unknown_key(error, overrides, config_name, recompose)) from error
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_torn(error)) from error
    except (HydraException, OmegaConfBaseException, OSError) as error:
        raise ConfigError(one_line(error)) from error
    except Exception as error:  # for some values Hydra and the YAML reader fail in ways of their own
        why = one_line(error)
        named = _culprit(overrides, recompose, why) if overrides else "the configuration"
        raise ConfigError(f"{shown(named)} cannot be composed ({why}); correct the value") from error


def _culprit(overrides: Sequence[str], recompose: Callable[[list[str]], DictConfig], why: str) -> str:
    """The override with which composing begins to fail, found by halving: each attempt takes a fraction of a second."""
    sound, failing = 0, len(overrides)
    while failing - sound > 1:
        middle = (sound + failing) // 2
        try:
            recompose(list(overrides[:middle]))
        except Exception as error:
            if why in one_line(error):
                failing = middle
                continue
        sound = middle
    return overrides[failing - 1]


def refuse_no_choices(overrides: Sequence[str]) -> None:
    """Refuse a group of files that is set to what cannot be the name of one. Raises ConfigError."""
    parser = OverridesParser.create()
    for override in overrides:
        try:
            parsed = parser.parse_override(override)
        except HydraException:
            continue  # composing says what is wrong
        try:
            value = parsed.value()
        except Exception as error:
            raise ConfigError(f"{shown(override)} cannot be read ({one_line(error)}); change it") from error
        group, _, choice = override.lstrip("+~").partition("=")
        folder = conf_dir() / parsed.key_or_group
        nested = parsed.key_or_group.replace(".", "/")
        if nested != parsed.key_or_group and isinstance(value, str) and (conf_dir() / nested).is_dir():
            raise ConfigError(
                f"{group} must be chosen with slashes, got {shown(override)}; use {nested}={shown(choice)}"
            )
        if parsed.is_delete() or parsed.is_sweep_override() or not folder.is_dir() or isinstance(value, dict):
            continue
        names = value if isinstance(value, list) else [value]
        if not all(isinstance(name, str) and name for name in names):
            own = ", ".join(sorted(path.stem for path in folder.glob("[!_]*.yaml")))
            raise ConfigError(f"{group} must be the name of a choice, got {shown(choice)}; use one of {own}")


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
    if options and options[-1] in ("--info", "-i"):
        options.append(arguments.info)  # it would take an override for its value
    sys.argv[1:] = [*options, *arguments.overrides]
    folders = [Path(arguments.config_dir)] if arguments.config_dir else []
    folders += [
        Path(place.removeprefix("file://")) for place in _searched(arguments.overrides) if "pkg://" not in place
    ]
    allow([*modules, *(module for folder in folders for module in modules_named_in(folder))])
    _refuse_packages(arguments.overrides)
    _check_hydras(arguments.overrides)
    return arguments


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
    if not group and str(error).startswith("Cannot find primary config"):
        return f"--config-name must be the name of a YAML file in conf/ or in --config-dir, got {choice}; name another"
    if not group:
        return one_line(error)
    remedy = f"use one of {', '.join(options)}"
    if group == "model" and (depth := re.fullmatch(r"d(\d+)", choice)):
        remedy = f"set model.depth={depth[1]} instead, which takes any depth"
    return f"{group}={choice} does not exist; {remedy}"


def unknown_key(error: Exception) -> str | None:
    """The key that an error of Hydra's says does not exist; None if the error says something else."""
    found = re.search(r"Could not override '([^'@]+)'", str(error))
    return found[1] if found else None


def _unknown_key(
    error: ConfigCompositionException,
    overrides: Sequence[str],
    config_name: str,
    recompose: Callable[[list[str]], DictConfig],
) -> str:
    key = unknown_key(error)
    if key is None:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        merging = re.match(r"Error merging override (.*)", str(error), re.DOTALL)
        if merging:
            why = one_line(cause).partition(" full_key:")[0]
            return f"{shown(merging[1])} sets what it cannot be ({why}); use another value"
        if override := re.match(r"Could not delete from config. '([^']+)' does not exist", str(error)):
            return f"~{override[1]} deletes a key that is null or does not exist; leave it out"
        return one_line(cause)
    value = shown(next((o.partition("=")[2] for o in overrides if o.partition("=")[0].lstrip("+~") == key), ""))
    groups = _groups()
    if "/" in key:
        return _unknown_group(key, value, groups)
    # Which keys exist depends on the choices made.
    choices = [o for o in overrides if o.partition("=")[0] in {*groups, SEARCH_PATH} - {key}]
    known = sorted(_keys(OmegaConf.to_container(recompose(choices))))
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


def _groups() -> set[str]:
    """All groups, those nested in others as `strategy/outer`."""
    return {folder.relative_to(conf_dir()).as_posix() for folder in conf_dir().rglob("*") if folder.is_dir()}


def _unknown_group(key: str, value: str, groups: set[str]) -> str:
    """What is wrong with a choice from the nested group `key`, which what is chosen does not have."""
    parent, _, part = key.rpartition("/")
    if key in groups:
        return (
            f"{key}={value} must belong to a {parent} whose YAML file names {part} in its defaults, got one that does "
            f"not; choose another {parent}, or add it there"
        )
    close = difflib.get_close_matches(key, sorted(groups), n=1, cutoff=0.5)
    remedy = f"did you mean {close[0]}?" if close else "list all groups with --help"
    return f"{key}={value} chooses from a group that does not exist; {remedy}"


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
