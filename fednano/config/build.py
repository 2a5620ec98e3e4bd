"""Instantiation of the objects that a configuration's groups name."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fednano.config import loggers
from fednano.config.checks import MISSING, check_node
from fednano.config.errors import one_line
from fednano.config.hydra.references import cannot_resolve
from fednano.config.moved import with_current_targets
from fednano.config.paths import with_absolute_paths
from fednano.config.targets import PARTIAL, TARGET, check_targets, imported, is_special

PLACED = {"download": "codec"}
"""Groups whose choices are those of another group."""


def build_groups(cfg: DictConfig, groups: Sequence[str], base: Path | None = None) -> dict[str, Any]:
    """Build the object of every group in `groups`; returns them by group, those of `logger` by name as `choices_in`.

    Nothing is imported before every `_target_` of all groups was found to be allowed. Relative paths are seen from
    `base`, by default the current folder.

    Raises:
        ValueError: a bad key or value; the message names it and a remedy.
    """
    nodes = {}
    for group in groups:
        node = with_current_targets(plain(cfg, group))
        if (isinstance(node, str) and node == MISSING) or node is None:
            raise ValueError(f"{group} is not set; add {group}=CHOICE")
        check_targets(node, group)
        nodes[group] = node
    built: dict[str, Any] = {}
    for group, node in nodes.items():
        if group == loggers.GROUP:
            built[group] = {name: _built(child, group, name, base) for name, child in loggers.choices_in(node).items()}
            continue
        try:
            built[group] = _built(node, group, "", base)
        except ValueError as error:
            # A choice that is put elsewhere, as codec@download is, names its keys as if it were at its own place.
            if (own := PLACED.get(group)) is None:
                raise
            raise ValueError(re.sub(rf"\b{own}\.(?=\w)", f"{group}.", str(error))) from None
    return built


def _built(node: Any, group: str, place: str, base: Path | None) -> Any:
    """The object of a node at `place` in a group, checked."""
    check_node(node, f"{group}.{place}".rstrip("."))
    absolute = with_absolute_paths(node, base)
    return _made(absolute, group, {place: absolute} if place else absolute, place)


def plain(cfg: DictConfig, key: str) -> Any:
    """The plain value of a key; None if the configuration lacks it.

    Raises:
        ValueError: it refers to a value that does not exist.
    """
    try:
        if OmegaConf.is_missing(cfg, key):
            return MISSING
        value = cfg.get(key)
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except (OmegaConfBaseException, RecursionError) as error:
        raise ValueError(cannot_resolve(error, cfg, key)) from error


def _made(value: Any, group: str, node: dict[str, Any], place: str) -> Any:
    """The object at `place`, the dotted path within a group's `node`; its own ValueError gets that path.

    Values are taken as they are: unlike Hydra's `instantiate`, this never resolves what resolving has produced.
    """
    if isinstance(value, list):
        return [_made(item, group, node, f"{place}.{index}".lstrip(".")) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    target = value.get(TARGET)
    made = {
        key: _made(child, group, node, f"{place}.{key}".lstrip("."))
        for key, child in value.items()
        if target is None or not is_special(str(key))
    }
    if target is None:
        return made
    cls = imported(target, f"{group}.{place}".rstrip("."))
    if value.get(PARTIAL):
        return partial(cls, **made)
    try:
        return cls(**made)
    except ValueError as error:
        if place and (text := _placed(str(error), group, node, place)) != str(error):
            raise ValueError(text) from None
        raise
    except Exception as error:
        where = f"{group}.{place}".rstrip(".")
        raise ValueError(
            f"{where} cannot be made with these settings ({type(error).__name__}: {one_line(error)}); correct them"
        ) from error


def _placed(text: str, group: str, node: dict[str, Any], place: str) -> str:
    """The error text of the object at `place` within a group, with its keys given by their full path.

    A choice that is nested in another choice of its group names its keys as if it were at the top level.
    """
    nested: Any = node
    for step in place.split("."):
        nested = nested[step] if isinstance(nested, dict) and step in nested else {}

    def path(found: re.Match[str]) -> str:
        within = found[1] in nested and found[1] not in node
        return f"{group}.{place}.{found[1]}" if within else found[0]

    return re.sub(rf"\b{group}\.(\w+)", path, text)
