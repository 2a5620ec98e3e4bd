"""The folder of fednano's YAML files, and the modules that the YAML files of a folder name."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import fednano

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def conf_dir() -> Path:
    """The folder of fednano's YAML files: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(fednano.__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


@cache
def own_modules() -> frozenset[str]:
    """The modules of fednano that hold choices: those that its YAML files name."""
    return frozenset(modules_named_in(conf_dir()))


def modules_named_in(folder: Path) -> list[str]:
    """The modules that the `_target_` entries in the YAML files of a folder name, sub-folders included.

    Hidden folders and run folders are left out: a run's config.yaml may come from somebody else.
    """
    found: set[str] = set()
    for path in _yaml_files(folder):
        text = path.read_text(encoding="utf-8", errors="replace")
        if "_target_" in text:
            found.update(target.rpartition(".")[0] for target in _targets(text))
    return sorted(found - {""})


def _yaml_files(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = [] if "events.jsonl" in files else [name for name in folders if not name.startswith(".")]
        if "events.jsonl" not in files:
            yield from (Path(place, name) for name in files if name.endswith(".yaml"))


def _targets(text: str) -> Iterator[str]:
    try:
        nodes: list[Any] = [yaml.load(text, _Loader)]  # a safe loader
    except (yaml.YAMLError, ValueError, RecursionError):
        return  # composing names the file if it is used
    seen = set[int]()  # an alias can stand for a node in which it is itself
    while nodes:
        node = nodes.pop()
        if id(node) in seen:
            continue
        if isinstance(node, dict | list):
            seen.add(id(node))
        if isinstance(node, dict):
            target = node.get("_target_")
            if isinstance(target, str) and all(word.isidentifier() for word in target.split(".")):
                yield target
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node
