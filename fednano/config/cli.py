"""What the commands share: composing a configuration, building what it names, refusing bad input in one line."""

import difflib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import fednano
from fednano.config.checks import BAD_INPUT, REFUSAL, check_node
from fednano.core.ranks import rank

INTERRUPTED = 130

# Flower and Ray call home, and do more than they are asked to, unless told not to.
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it warns that it will do so one day
    # Else, below `uv run`, Ray copies the working directory and has every worker install it first.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


class ConfigError(ValueError):
    """Bad input of the user's; its text is one line with key, value and remedy."""


def conf_dir() -> Path:
    """The configuration tree: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(fednano.__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def compose_config(overrides: Sequence[str], config_name: str = "config", with_hydra: bool = False) -> DictConfig:
    """The configuration that `overrides` make of `config_name`. Raises ConfigError."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            return compose(config_name, list(overrides), return_hydra_config=with_hydra)
        except MissingConfigException as error:
            raise ConfigError(_unknown_choice(error, overrides)) from error
        except OverrideParseException as error:
            raise ConfigError(
                f"{error.override} cannot be read as KEY=VALUE; quote values that hold spaces, commas or brackets"
            ) from error
        except ConfigCompositionException as error:
            raise ConfigError(_unknown_key(error, overrides, config_name)) from error
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(_one_line(error)) from error


def build_groups(cfg: DictConfig, groups: Sequence[str]) -> dict[str, Any]:
    """The object of every group in `groups`.

    Raises:
        ValueError: a bad key or value, named with its remedy.
    """
    built = {}
    for group in groups:
        try:
            node = OmegaConf.to_container(cfg[group], resolve=True)
        except OmegaConfBaseException as error:
            raise ValueError(f"{group}: {' '.join(str(error).split())}") from error
        assert isinstance(node, dict)
        check_node(node, group)  # type: ignore[arg-type]
        built[group] = _make(group, node)  # type: ignore[arg-type]
    return built


def _make(group: str, node: dict[str, Any]) -> Any:
    """Instantiate, letting the class's own ValueError through in place of Hydra's wrapping of it."""
    try:
        return instantiate(node, _convert_="all")
    except Exception as error:
        cause = error.__cause__
        while cause is not None and not isinstance(cause, ValueError):
            cause = cause.__cause__
        place = re.search(r"^full_key: (\S+)$", str(error), re.MULTILINE)
        if cause and place and (text := _placed(str(cause), group, node, place[1])) != str(cause):
            raise ValueError(text) from None
        raise cause or error from None


def _placed(text: str, group: str, node: dict[str, Any], place: str) -> str:
    """An error of the object at `place` of a group, its keys by their whole path.

    A choice of a group that is part of another choice names its keys as if it lay on top.
    """
    nested: Any = node
    for step in place.split("."):
        nested = nested[step] if isinstance(nested, dict) and step in nested else {}

    def path(found: re.Match[str]) -> str:
        within = found[1] in nested and found[1] not in node
        return f"{group}.{place}.{found[1]}" if within else found[0]

    return re.sub(rf"\b{group}\.(\w+)", path, text)


def refuse(error: Exception) -> int:
    """Print why input was refused and return the exit code for it."""
    if not rank():
        print(f"{REFUSAL}{_one_line(error)}", file=sys.stderr)
    return BAD_INPUT


def guarded(command: Callable[[], int]) -> int:
    """Run a command whose ValueErrors mean bad input; the exit code."""
    try:
        return command()
    except ValueError as error:
        return refuse(error)
    except KeyboardInterrupt:
        print("fednano: interrupted", file=sys.stderr)
        return INTERRUPTED


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _unknown_choice(error: MissingConfigException, overrides: Sequence[str]) -> str:
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    options = [option for option in error.options or [] if not option.startswith("_")]
    if not group:
        return _one_line(error)
    remedy = f"use one of {', '.join(options)}"
    if group == "model" and (depth := re.fullmatch(r"d(\d+)", choice)):
        remedy = f"any depth works as model.depth={depth[1]}"
    return f"{group}={choice} is no choice; {remedy}"


def _unknown_key(error: ConfigCompositionException, overrides: Sequence[str], config_name: str) -> str:
    found = re.search(r"Could not override '([^'@]+)'", str(error))
    if not found:
        cause = error.__cause__ or error
        return _one_line(cause if isinstance(cause, Exception) else error)
    key = found[1]
    value = next((o.partition("=")[2] for o in overrides if o.partition("=")[0].lstrip("+~") == key), "")
    # The keys that there are depend on the choices made.
    groups = {folder.name for folder in conf_dir().iterdir() if folder.is_dir()}
    choices = [o for o in overrides if o.partition("=")[0] in groups]
    known = sorted(_keys(OmegaConf.to_container(compose_config(choices, config_name))))
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    remedy = (
        f"did you mean {close[0]}?"
        if close
        else f"the keys are listed by: python -m fednano.{_command(config_name)} --cfg job"
    )
    return f"{key}={value} sets a key that does not exist; {remedy}"


def _command(config_name: str) -> str:
    return "run" if config_name == "config" else config_name


def _keys(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, dict):
        return []
    own = [f"{prefix}{key}" for key in node]
    return own + [k for key, child in node.items() for k in _keys(child, f"{prefix}{key}.")]


def with_hydra_flags(config_name: str, command: Callable[[Sequence[str]], int]) -> int:
    """Run `command` on the command line's overrides; --help and --cfg show the configuration in its place."""
    arguments = get_args_parser().parse_args()
    if arguments.help:
        written = (conf_dir() / f"{config_name}.yaml").read_text(encoding="utf-8").partition("\nhydra:")[0]
        keys = [line for line in written.splitlines() if "override hydra/" not in line]
        print(f"python -m fednano.{config_name} KEY=VALUE …\n")
        print("\n".join(keys))
        return 0
    if arguments.cfg:
        cfg = compose_config(arguments.overrides, config_name)
        print(OmegaConf.to_yaml(cfg, resolve=bool(arguments.resolve)), end="")
        return 0
    return command(arguments.overrides)
