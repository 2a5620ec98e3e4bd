"""What Hydra and OmegaConf refuse while they compose a configuration, told in one line that names the override."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from fednano.config.checks import setting_names
from fednano.config.errors import ConfigError, one_line, shown
from fednano.config.hydra.plugins import lacking
from fednano.config.hydra.references import unresolved
from fednano.config.hydra.texts import translated
from fednano.config.moved import moved_key
from fednano.config.places import conf_dir

SEARCH_PATH = "hydra.searchpath"  # configuration folders in addition to fednano's own
OPTIONAL = ("experiment", "budget", "resume", "sweep")  # entries of a root configuration that may be deleted
EXPERIMENT = "experiment"  # the group whose choices may be in folders
SEVERAL = ("experiment", "logger")  # groups of which several choices may be merged
Recompose = Callable[[list[str]], DictConfig]


@contextmanager
def refusals(overrides: Sequence[str], config_name: str, recompose: Recompose) -> Iterator[None]:
    """Turn the errors of composing `config_name` with `overrides` into a ConfigError, which is one line.

    `recompose` composes it with fewer overrides, to find out which keys there are and which override is at fault.
    """
    _refuse_fragments(overrides)
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # for some values Hydra and the YAML reader fail in ways of their own
        raise ConfigError(_told(error, overrides, config_name, recompose)) from error


def refuse_no_choices(overrides: Sequence[str], config_name: str) -> None:
    """Refuse a group of files that is set to what cannot be the name of one, or deleted. Raises ConfigError."""
    parser = OverridesParser.create()
    for override in overrides:
        try:
            parsed = parser.parse_override(override)
        except HydraException:
            continue  # composing says what is wrong
        try:
            value = parsed.value()
        except Exception as error:
            raise ConfigError(f"{shown(override)} cannot be read ({one_line(error)}); quote its value") from error
        group, _, choice = override.lstrip("+~").partition("=")
        if not group:
            raise ConfigError(_unreadable(override))
        folder = conf_dir() / parsed.key_or_group
        nested = parsed.key_or_group.replace(".", "/")
        if nested != parsed.key_or_group and isinstance(value, str) and (conf_dir() / nested).is_dir():
            raise ConfigError(
                f"{group} must be chosen with slashes, got {shown(override)}; use {nested}={shown(choice)}"
            )
        if parsed.key_or_group == "download" and not isinstance(value, dict):
            raise ConfigError(f"download must be chosen as codec@download=CHOICE, got {shown(override)}; use that")
        if parsed.is_delete():
            _refuse_deletion(override.lstrip("~").partition("=")[0], config_name)
        if parsed.is_delete() or parsed.is_sweep_override() or not folder.is_dir():
            continue
        if isinstance(value, list) and parsed.key_or_group not in SEVERAL:
            raise ConfigError(
                f"{group} must be one choice, got {shown(choice)}; name one, or add -m for a run with each"
            )
        names = value if isinstance(value, list) else [value]
        if not isinstance(value, dict) and not all(map(_is_name, names)):
            own = ", ".join(sorted(path.stem for path in folder.glob("[!_]*.yaml")))
            raise ConfigError(f"{group} must be the name of a choice, got {shown(choice)}; use one of {own}")


def unknown_key(error: Exception) -> str | None:
    """The key that an error of Hydra's says does not exist; None if the error says something else."""
    found = re.match(r"Could not override '([^'@]+)'", str(error))
    return found[1] if found else None


def _is_name(choice: Any) -> bool:
    """Whether a value may name a file of a group, or one in a folder of that group."""
    return isinstance(choice, str) and bool(choice) and not choice.startswith("/") and ".." not in choice.split("/")


def _refuse_deletion(key: str, config_name: str) -> None:
    """Refuse to delete what every configuration of this name must have."""
    root = conf_dir() / f"{config_name.removesuffix('.yaml')}.yaml"
    if key in OPTIONAL or not root.is_file():
        return
    written = yaml.safe_load(root.read_text(encoding="utf-8"))
    groups = [name for entry in written["defaults"] if isinstance(entry, dict) for name in entry]
    if "/" in key and (conf_dir() / key).is_dir():
        instead = f", or use {key}=none" if (conf_dir() / key / "none.yaml").is_file() else ""
        raise ConfigError(f"{key} must be set, got ~{key}, which deletes it; leave ~{key} out{instead}")
    if key in written or key in groups:
        raise ConfigError(f"{key} must be set, got ~{key}, which deletes it; leave ~{key} out")


def _refuse_fragments(overrides: Sequence[str]) -> None:
    """Refuse a file whose name begins with an underscore: it is a part that other choices include."""
    for override in overrides:
        group, _, choice = override.lstrip("+").partition("=")
        folder, _, name = choice.rpartition("/")
        if name.startswith("_") and (conf_dir() / group / f"{choice}.yaml").is_file():
            own = _names((conf_dir() / group / folder).glob("[!_]*.yaml"), conf_dir() / group)
            raise ConfigError(f"{override} is a part of other choices; use one of {', '.join(own)}")


def _told(error: Exception, overrides: Sequence[str], config_name: str, recompose: Recompose) -> str:  # noqa: PLR0911
    """What an error of Hydra's, OmegaConf's or the YAML reader's says, in one line."""
    if "maximum recursion depth" in str(error):
        named = _culprit(overrides, recompose, "maximum recursion depth")
        return f"{named} must be nested a few levels deep, got an alias to itself or too many levels; correct it"
    if isinstance(error, ConfigCompositionException) and not str(error) and isinstance(error.__cause__, Exception):
        return _told(error.__cause__, overrides, config_name, recompose)
    if text := translated(error, overrides, _command(config_name) == "run"):
        return text
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error, overrides, config_name)
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override))
    if isinstance(error, ConfigCompositionException):
        return _unknown_key(error, overrides, config_name, recompose)
    if isinstance(error, yaml.MarkedYAMLError):
        return _torn(error)
    if isinstance(error, InterpolationResolutionError) and error.full_key:
        given = [word.partition("=")[2] for word in overrides if word.partition("=")[0].lstrip("+") == error.full_key]
        return unresolved(error, error.full_key, given[-1] if given else None)
    if isinstance(error, HydraException | OSError):
        return one_line(error)
    why = one_line(error)
    named = _culprit(overrides, recompose, why)
    if "integer string conversion" in why:
        return f"{named} must fit into 64 bits, got a number of thousands of digits; use less"
    return f"{named} cannot be composed ({why}); correct the value"


def _culprit(overrides: Sequence[str], recompose: Recompose, why: str) -> str:
    """The override with which composing begins to fail, found by halving: each attempt takes a fraction of a second."""
    if not overrides:
        return "the configuration"
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
    return shown(overrides[failing - 1])


def _unreadable(override: str) -> str:
    key, equals, _ = override.partition("=")
    if not equals and not override.startswith("~"):
        remedy = f"write {override}=VALUE" if re.fullmatch(r"[\w.@/+]+", override) else "write KEY=VALUE"
    elif not re.fullmatch(r"[+~]*[^\W\d]\w*([./@:]\w+)*", key):
        remedy = "write the key as names with dots between them"
    else:
        letters = "" if override.isascii() else ", letters outside ASCII"
        remedy = f"quote values that contain spaces, commas{letters} or brackets"
    return f"{shown(override)} cannot be read as KEY=VALUE; {remedy}"


def _torn(error: yaml.MarkedYAMLError) -> str:
    """What is wrong in a YAML file, and where."""
    mark = error.problem_mark
    place = f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}" if mark else "a YAML file"
    return f"{place} cannot be read as YAML ({one_line(Exception(error.problem or error.context))}); correct the file"


def _unknown_choice(error: MissingConfigException, overrides: Sequence[str], config_name: str) -> str:
    file = error.missing_cfg_file or ""
    if str(error).startswith("Cannot find primary config") or file.strip("/") == config_name.strip("/"):
        return (
            f"--config-name must be the name of a YAML file in conf/ or in --config-dir, got {config_name}; name "
            "another"
        )
    group, _, choice = file.rpartition("/")
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if f"{key.partition('@')[0]}/{value}" == file:
            group, choice = key, value
        elif key == group and (missing := lacking(f"{key}={value}")):  # whose file includes the plug-in's
            return missing
    if missing := lacking(f"{group}={choice}"):
        return missing
    # Hydra names no options where several choices are merged.
    options = error.options or sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
    options = [option for option in options if not option.startswith("_")]
    if group.partition("/")[0] == EXPERIMENT:
        group, choice = EXPERIMENT, file.removeprefix(f"{EXPERIMENT}/")
        top, folder = conf_dir() / EXPERIMENT, conf_dir() / Path(file).parent
        if folder not in (top, conf_dir()) and folder.is_dir():
            options = _names(folder.glob("[!_]*.yaml"), top)
        options += [f"{name}/…" for name in _names(filter(Path.is_dir, folder.glob("*")), top)]
    if not group:
        return one_line(error)
    remedy = f"use one of {', '.join(options)}"
    if group == "model" and (depth := re.fullmatch(r"d(\d+)", choice)):
        remedy = f"set model.depth={depth[1]} instead, which takes any depth"
    named_by = re.match(r"In '([^']+)': ", str(error))
    if named_by and named_by[1] != config_name and not any(word.endswith(f"={choice}") for word in overrides):
        return f"{named_by[1]}.yaml begins with {group}={shown(choice)}, which does not exist; {remedy}"
    return f"{group}={shown(choice)} does not exist; {remedy}"


def _unknown_key(
    error: ConfigCompositionException, overrides: Sequence[str], config_name: str, recompose: Recompose
) -> str:
    key = unknown_key(error)
    if key is None:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        merging = re.match(r"Error merging override (.*)", str(error), re.DOTALL)
        if merging:
            return f"{shown(merging[1])} sets what it cannot be ({one_line(cause)}); use another value"
        if override := re.match(r"Could not delete from config. '([^']+)' does not exist", str(error)):
            return f"~{override[1]} deletes a key that is null or does not exist; leave it out"
        return one_line(cause)
    chosen = re.search(r"To append to your config use \+[^=]+=(.*)", str(error))  # by a sweeper, which nobody gave
    given = (o.partition("=")[2] for o in overrides if o.partition("=")[0].lstrip("+~") == key)
    value = shown(next(given, chosen[1] if chosen else ""))
    groups = _groups()
    if "/" in key:
        return _unknown_group(key, value, groups)
    # Which keys exist depends on the choices made.
    choices = [o for o in overrides if re.split("[@=]", o)[0] in {*groups, SEARCH_PATH} - {key}]
    nodes: dict[str, Any] = {}
    with suppress(Exception):  # another fault, which is found when this one is corrected
        nodes = _keys(OmegaConf.to_container(recompose(choices)))
    parent = key.rpartition(".")[0]
    if text := _of_a_logger(key, value, nodes):
        return text
    of_a_class = f"{parent}._target_" in nodes
    close = difflib.get_close_matches(key, sorted(nodes), n=5, cutoff=0.5)
    if of_a_class:  # it may well have an argument of this name
        group = key.partition(".")[0]
        close = [match for match in close if match.partition(".")[0] == group and _alike(key, match)]
    name = key.rpartition(".")[2]
    taken = (
        setting_names(nodes[f"{parent}._target_"], parent) if of_a_class and not parent.startswith("hydra.") else None
    )
    if taken is not None and name not in taken and (having := _choices_with(parent, name)):
        remedy = f"choose {' or '.join(having[:3])} for it"
    elif parent in groups and nodes and not any(node.startswith(f"{parent}.") for node in nodes):
        remedy = f"the chosen YAML file of {parent} is empty, so write {parent}'s keys there"
    elif nodes.get(parent) == {}:  # such as the environment of the jobs
        remedy = f"add it as +{key}={value}"
    elif close:
        remedy = f"did you mean {close[0]}?"
    elif of_a_class:
        remedy = _of_a_class(nodes[f"{parent}._target_"], parent, key, value)
    else:
        remedy = f"list all keys with: python -m fednano.{_command(config_name)} --cfg job"
    return f"{key}={value} sets a key that does not exist; {remedy}"


def _choices_with(parent: str, name: str) -> list[str]:
    """The choices, as strategy/outer=adam, whose YAML files have a key of this name, and which are not made."""
    group = parent.replace(".", "/")
    found = []
    for path in sorted((conf_dir() / group).glob("[!_]*.yaml")) if group else []:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(written, dict) and name in written:
            found.append(f"{group}={path.stem}")
    return found


def _of_a_logger(key: str, value: str, nodes: dict[str, Any]) -> str | None:
    """What to do about a key of a logger that is not chosen, or that was in another place in earlier versions."""
    if place := moved_key(key):
        return f"{key}={value} sets a key that is {place} now; choose logger=wandb and write {place}={value}"
    group, _, name = key.rpartition(".")[0].partition(".")
    if group != "logger" or f"logger.{name}" in nodes or not (conf_dir() / "logger" / f"{name}.yaml").is_file():
        return None
    return f"{key}={value} sets a key of logger={name}, which is not chosen; choose logger={name} as well"


def _of_a_class(target: str, parent: str, key: str, value: str) -> str:
    """What to do about a key that a YAML file with a `_target_` does not have."""
    taken = None if parent.startswith("hydra.") else setting_names(target, parent)
    if taken is None or key.rpartition(".")[2] in taken:
        return f"add an argument that its YAML file leaves out as +{key}={value}"
    choice = parent.replace(".", "/")
    remedies = [f"set {', '.join(f'{parent}.{name}' for name in taken[:5])}"] if taken else []
    remedies += [f"choose another {choice}"] if choice in _groups() else []
    return ", or ".join(remedies) or "leave it out"


def _groups() -> set[str]:
    """All groups, those nested in others as `strategy/outer`."""
    return {folder.relative_to(conf_dir()).as_posix() for folder in conf_dir().rglob("*") if folder.is_dir()}


def _unknown_group(key: str, value: str, groups: set[str]) -> str:
    """What is wrong with a choice from the nested group `key`, which what is chosen does not have."""
    parent, _, part = key.rpartition("/")
    if key.startswith(f"{EXPERIMENT}/") and key in groups:
        choice = f"{key.removeprefix(f'{EXPERIMENT}/')}/{value}"
        return (
            f"{EXPERIMENT} must be chosen with the folder in the choice, got {key}={value}; use {EXPERIMENT}={choice}"
        )
    if key in groups:
        return (
            f"{key}={value} must belong to a {parent} whose YAML file names {part} in its defaults, got one that does "
            f"not; choose another {parent}, or add it there"
        )
    close = difflib.get_close_matches(key, sorted(groups), n=1, cutoff=0.5)
    remedy = f"did you mean {close[0]}?" if close else "list all groups with --help"
    return f"{key}={value} chooses from a group that does not exist; {remedy}"


def _names(files: Iterable[Path], group: Path) -> list[str]:
    """The names that files or folders have as choices of a group, such as reproduce/diloco."""
    return sorted(path.relative_to(group).with_suffix("").as_posix() for path in files)


def _alike(key: str, match: str) -> bool:
    """Whether one key may be a misspelling of the other: their last words are alike, whatever groups they are in."""
    words = key.rpartition(".")[2], match.rpartition(".")[2]
    if words[0] == words[1] and key.partition(".")[0] != match.partition(".")[0]:
        return False  # two groups may well have a key of one name
    return difflib.SequenceMatcher(None, *words).ratio() >= 0.5


def _command(config_name: str) -> str:
    return config_name if config_name in ("prepare", "sample", "evaluate", "node") else "run"


def _keys(node: Any, prefix: str = "") -> dict[str, Any]:
    """Every key below a node, with dots, and its value."""
    if not isinstance(node, dict):
        return {}
    found = {f"{prefix}{key}": child for key, child in node.items()}
    for key, child in node.items():
        found |= _keys(child, f"{prefix}{key}.")
    return found
