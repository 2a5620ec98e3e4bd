"""Defaults of the keys that configurations of earlier versions lack."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from fednano.config.places import conf_dir, own_modules
from fednano.config.targets import TARGET, imported
from fednano.report.comparison.runs import RecordedRun
from fednano.report.sinks import flat

UNKNOWN = object()


def with_defaults(runs: Sequence[RecordedRun]) -> tuple[list[RecordedRun], list[str]]:
    """The runs with the keys that they lack and others have, each at the value that it had for them.

    That is the default in the constructor of the section's class, as for a run that is resumed, or in conf/config.yaml
    for a key outside all classes. A key of another class than the run's stays absent, and so does one whose default is
    not known: both tell runs apart. Also returns the keys for which a run now counts as equal to one that has the key.
    """
    recorded: dict[tuple[str | None, str], list[Any]] = {}
    for run in runs:
        for key, value in run.config.items():
            recorded.setdefault((_class_of(key, run.config), key), []).append(value)
    completed, equal = [], set[str]()
    for run in runs:
        sections = {key[:end] for key in run.config for end, letter in enumerate(key) if letter == "."}
        added = {}
        for (cls, key), values in recorded.items():
            lacks = key not in run.config and key not in sections and not _under_a_value(key, run.config)
            if not lacks or cls != _class_of(key, run.config):
                continue
            default = _default(cls, key)
            if default is not UNKNOWN:
                added[key] = default
                if default in values:
                    equal.add(key)
        completed.append(replace(run, config={**run.config, **added}))
    return completed, sorted(equal)


def _class_of(key: str, config: Mapping[str, Any]) -> str | None:
    """The `_target_` beside a key; None without one."""
    section = key.rpartition(".")[0]
    return config.get(f"{section}.{TARGET}") if section else None


def _under_a_value(key: str, config: Mapping[str, Any]) -> bool:
    """Whether one of the sections that the key is in is a value, such as null."""
    return any(key[:end] in config for end, letter in enumerate(key) if letter == ".")


@cache
def _default(cls: str | None, key: str) -> Any:
    """The default of a key beside the `_target_` of that name; of a class outside fednano, UNKNOWN."""
    if cls is None:
        root: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / "config.yaml"), resolve=False)
        return flat(root, ".").get(key, UNKNOWN)
    if cls.rpartition(".")[0] not in own_modules():
        return UNKNOWN
    section, _, name = key.rpartition(".")
    try:
        parameter = inspect.signature(imported(cls, section)).parameters.get(name)
    except (TypeError, ValueError):
        return UNKNOWN
    default = parameter.default if parameter else UNKNOWN
    if isinstance(default, tuple):
        return list(default)  # as YAML has it
    return default if default is None or isinstance(default, bool | int | float | str | list) else UNKNOWN
