"""A YAML file of a config group as its author wrote it: keys and values, and the comments beside them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_PACKAGE = re.compile(r"# @package (\S+)")
_CODE = re.compile(r"# Code: ")
_PART = re.compile(r"(?P<override>override )?(?P<group>/?[\w/]+)(?:@(?P<package>[\w.]+))?")


@dataclass(frozen=True)
class WrittenValue:
    """A value and the comment on it; `text` is the value as the file writes it."""

    text: str
    comment: str


@dataclass(kw_only=True)
class WrittenChoice:
    """A YAML file of a group.

    Args:
        summary: the comment at its top, without lines for programs and those that name the code.
        package: where Hydra puts its keys, if the file says so.
        parents: the choices of the same group that it begins with.
        parts: choices of groups below its own, by the group's last name, or by GROUP@PLACE.
        others: choices that it makes in other groups, by the group, or by GROUP@PLACE.
        keys: its values, by their dotted path; a list, or a mapping in braces, is one value.
    """

    summary: str
    package: str | None = None
    parents: list[str] = field(default_factory=list)
    parts: dict[str, WrittenValue] = field(default_factory=dict)
    others: dict[str, WrittenValue] = field(default_factory=dict)
    keys: dict[str, WrittenValue] = field(default_factory=dict)


def read_choice(path: Path) -> WrittenChoice:
    """Read one YAML file of a config group."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    top: list[str] = []
    for line in lines:
        if not line.startswith("#"):
            break
        top.append(line)
    package = next((found[1] for line in top if (found := _PACKAGE.match(line))), None)
    told = [line.lstrip("# ") for line in top if not _PACKAGE.match(line) and not _CODE.match(line)]
    choice = WrittenChoice(summary=" ".join(told), package=package)
    root = yaml.compose(text, yaml.SafeLoader)
    assert isinstance(root, MappingNode), path
    for key, value in root.value:
        if key.value == "defaults":
            for item in value.value:
                _read_default(item, lines, choice)
        elif key.value != "hydra":
            choice.keys.update(_entries(key, value, lines, text, ""))
    return choice


def _read_default(item: Node, lines: list[str], choice: WrittenChoice) -> None:
    """Sort one line of a defaults list into what the choice begins with, its parts, and choices elsewhere."""
    comment = _beside(item, lines)
    if isinstance(item, ScalarNode):
        if item.value != "_self_":
            choice.parents.append(item.value)
        return
    ((name, chosen),) = item.value
    found = _PART.fullmatch(name.value)
    assert found, name.value
    group, package = found["group"], found["package"] or ""
    if not group.startswith("/"):
        if not group.startswith("hydra/"):
            choice.parts[f"{group}@{package}" if package else group] = WrittenValue(chosen.value, comment)
        return
    place = package.removeprefix("_global_.")
    named = group[1:] if place in ("", group[1:]) else f"{group[1:]}@{place}"
    choice.others[named] = WrittenValue(chosen.value, comment)


def _entries(key: Node, value: Node, lines: list[str], text: str, above: str) -> Iterator[tuple[str, WrittenValue]]:
    """The entries of a key: one, or those of a mapping that stands in lines of its own."""
    path = f"{above}{key.value}"
    if isinstance(value, MappingNode) and not value.flow_style:
        for inner, child in value.value:
            yield from _entries(inner, child, lines, text, f"{path}.")
        if comment := _comment(key, key, lines):
            yield path, WrittenValue("", comment)
        return
    last = key if isinstance(value, SequenceNode) and not value.flow_style else value
    yield path, WrittenValue(_text(value, text), _comment(key, last, lines))


def _comment(key: Node, last: Node, lines: list[str]) -> str:
    """The comment behind an entry whose last node on its line is `last`, or in the lines above it after `# KEY:`."""
    if beside := _beside(last, lines):
        return beside
    above: list[str] = []
    for line in reversed(lines[: key.start_mark.line]):
        if not line.lstrip().startswith("#"):
            break
        above.insert(0, line.lstrip(" #"))
    told = " ".join(above)
    return told.removeprefix(f"{key.value}: ") if told.startswith(f"{key.value}: ") else ""


def _beside(node: Node, lines: list[str]) -> str:
    """The comment behind a node; behind the first line of one that goes on over several lines."""
    first: int = node.start_mark.line
    last: int = node.end_mark.line
    if last != first:
        return lines[first].partition(" # ")[2]
    column: int = node.end_mark.column
    return lines[last][column:].partition("# ")[2]


def _text(value: Node, text: str) -> str:
    if isinstance(value, SequenceNode):
        return f"[{', '.join(_text(item, text) for item in value.value)}]"
    return str(text[value.start_mark.index : value.end_mark.index])
