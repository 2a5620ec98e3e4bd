"""Instantiation of the objects that a configuration's groups name."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fednano.config.checks import check_node
from fednano.config.errors import one_line
from fednano.config.moved import with_current_targets
from fednano.config.paths import with_absolute_paths


def build_groups(cfg: DictConfig, groups: Sequence[str], base: Path | None = None) -> dict[str, Any]:
    """Build the object of every group in `groups`; returns them by group.

    Relative paths are seen from `base`, by default the current folder.

    Raises:
        ValueError: a bad key or value; the message names it and a remedy.
    """
    built = {}
    for group in groups:
        try:
            node = with_current_targets(OmegaConf.to_container(cfg[group], resolve=True))
        except OmegaConfBaseException as error:
            raise ValueError(f"{group}: {one_line(error)}") from error
        check_node(node, group)
        assert isinstance(node, dict)
        built[group] = _make(group, with_absolute_paths(node, base))
    return built


def _make(group: str, node: dict[str, Any]) -> Any:
    """Instantiate a group; re-raises the class's own ValueError rather than the error that Hydra wraps it in."""
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
