"""The reference of configuration keys as plain text, in lines of at most 80 characters."""

import difflib
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from fednano.config.reference.keys import KeyReference, choice_of, groups_of

WIDTH = 80


def wrapped(text: str, indent: int = 0, hanging: int | None = None) -> str:
    """Text in lines of at most 80 characters; `hanging` is the indent of the lines after the first."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent if hanging is None else hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )


def keys_shown(keys: Iterable[KeyReference], indent: int = 0) -> str:
    """Each key with its default, and below it what it means."""
    return "\n".join(_key_shown(key, indent) for key in keys)


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What `--help` explains: a configuration as it was composed.

    Args:
        folders: of the configuration files, the user's own first.
        choices: those that are made, by group.
        root: the keys outside the groups.
        composed: the values; those in the files are defaults beside them.
        plugins: by group, choices that no file of the folders makes, and what each is.
        plugin_settings: the keys of such a choice, by (group, name), each with its default and meaning.
    """

    folders: Sequence[Path]
    choices: Mapping[str, str]
    root: Sequence[KeyReference]
    composed: DictConfig
    plugins: Mapping[str, Mapping[str, str]]
    plugin_settings: Callable[[str, str], Mapping[str, tuple[Any, str]]]

    def text(self, word: str) -> str:
        """What `--help WORD` prints: a group's choices and the keys of the one that is made, or what a key means.

        Raises ValueError if the word is neither a group nor a key.
        """
        groups = with_plugins(groups_of(*self.folders), self.plugins)
        if word in groups:
            return self._group(word, groups[word])
        names = word.replace(".", "/").split("/")
        within = [group for k in range(len(names)) if (group := "/".join(names[: k + 1])) in groups]
        keys, without = [] if within else list(self.root), ""
        for group in within:
            if any(key.name.startswith(f"{group.replace('/', '.')}.") for key in keys):
                break  # the group above writes this part out in its own file
            if self.choices.get(group) is None:
                without = group
                break
            keys += [key for key in self._keys(group) if not key.part_of]
        if found := [key for key in keys if f"{key.name}.".startswith(f"{word}.")]:
            return keys_shown(with_value(key, self.composed) for key in found)
        if within and not without and (elsewhere := self._elsewhere(word, within[-1], groups[within[-1]])):
            return elsewhere
        if without:
            raise ValueError(
                f"{word} must belong to a choice that is made, got none of {without}; add {without}=CHOICE"
            )
        if having := [group for group, choices in groups.items() if word in choices]:
            named = ", ".join(having)
            raise ValueError(f"{word} must be a group or a key, got a choice of {named}; see --help {having[0]}")
        likest = difflib.get_close_matches(word, [*groups, *(key.name for key in keys)], 1)
        where = f"a key of {within[-1]}={self.choices[within[-1]]}" if within else "a group or a key"
        raise ValueError(f"{word} must be {where}; " + (f"did you mean {likest[0]}?" if likest else "see --help"))

    def _group(self, group: str, names: Sequence[str]) -> str:
        chosen, in_files = self.choices.get(group), groups_of(*self.folders).get(group, [])
        lines = [f"{group}={chosen or 'CHOICE'}", ""]
        for name in names:
            written = name in in_files
            told = choice_of(self.folders, group, name).summary if written else self.plugins[group][name]
            lines.append(wrapped(f"{name}: {told}", 4, 8))
        if chosen in names:
            keys = self._keys(group)
            lines += ["", f"Keys of {group}={chosen}:", "", keys_shown(with_value(key, self.composed) for key in keys)]
            if not keys:
                lines[-3:] = [f"{group}={chosen} has no keys."]
        return "\n".join(lines)

    def _elsewhere(self, word: str, group: str, names: Sequence[str]) -> str:
        """The keys that other choices of the group have, and which these are; empty if none has any."""
        found: dict[str, KeyReference] = {}
        having: list[str] = []
        for name in names:
            try:
                keys = [key for key in self._keys(group, name) if f"{key.name}.".startswith(f"{word}.")]
            except ValueError:  # a file of the user's whose class cannot be imported
                continue
            having += [name] if keys else []
            found |= {key.name: key for key in keys if key.name not in found}
        if not found:
            return ""
        choices = f"{group}={having[0]}" + (f" (also {', '.join(having[1:])})" if having[1:] else "")
        note = f"A key of {choices}, which is not chosen here; add {group}={having[0]} to the command line."
        return f"{keys_shown(found.values())}\n{wrapped(note, 4)}"

    def _keys(self, group: str, name: str = "") -> Sequence[KeyReference]:
        name = name or self.choices[group]
        if name in groups_of(*self.folders).get(group, ()):
            return choice_of(self.folders, group, name).keys
        place = group.replace("/", ".")
        return [
            KeyReference(name=f"{place}.{key}", default=_as_yaml(value), kind="", limits="", meaning=meaning)
            for key, (value, meaning) in self.plugin_settings(group, name).items()
        ]


def with_value(key: KeyReference, composed: DictConfig) -> KeyReference:
    """The key with the value that it has, which another file or the command line may have changed."""
    node: Any = composed
    for name in key.name.split("."):
        if not isinstance(node, DictConfig) or name not in node:
            return key
        node = node._get_node(name)  # without following references
    value = OmegaConf.to_container(node, enum_to_str=True) if OmegaConf.is_config(node) else node._value()
    value = value.name if isinstance(value, Enum) else value
    if key.part_of or key.default is None or value == yaml.safe_load(key.default):
        return key
    return replace(key, default=_as_yaml(value), kind="; ".join(filter(None, (key.kind, f"default {key.default}"))))


def with_plugins(groups: Mapping[str, list[str]], plugins: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """Groups with the names of their choices, those of plug-ins included."""
    names = {group: sorted({*groups.get(group, ()), *more}) for group, more in plugins.items()}
    return dict(sorted({**groups, **names}.items()))


def _as_yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True, width=WIDTH).removesuffix("...\n").strip())


def _key_shown(key: KeyReference, indent: int) -> str:
    if key.part_of:
        head, told = f"{key.part_of}={key.default}", f"{key.meaning}; see --help {key.part_of}"
    else:
        head, told = f"{key.name}: {key.default}" if key.default is not None else f"+{key.name}", key.meaning
    lines = [wrapped(head, indent, indent + 4), *([wrapped(told, indent + 4)] if told else [])]
    if (values := ", ".join(filter(None, (key.kind, key.limits)))) and not key.part_of:
        lines.append(wrapped(f"({values})", indent + 4))
    return "\n".join(lines)
