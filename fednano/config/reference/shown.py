"""The reference of configuration keys as plain text, in lines of at most 80 characters."""

import difflib
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Explained:
    """What `--help` explains: a configuration as it was composed.

    Args:
        folders: of the configuration files, the user's own first.
        choices: those that are made, by group.
        root: the keys outside the groups.
        composed: the values; those in the files are defaults beside them.
    """

    folders: Sequence[Path]
    choices: Mapping[str, str]
    root: Sequence[KeyReference]
    composed: DictConfig

    def text(self, word: str) -> str:
        """What `--help WORD` prints: a group's choices and the keys of the one that is made, or what a key means.

        Raises ValueError if the word is neither a group nor a key.
        """
        groups = groups_of(*self.folders)
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
            return keys_shown(map(self._with_value, found))
        if without:
            raise ValueError(
                f"{word} must belong to a choice that is made, got none of {without}; add {without}=CHOICE"
            )
        likest = difflib.get_close_matches(word, [*groups, *(key.name for key in keys)], 1)
        where = f"a key of {within[-1]}={self.choices[within[-1]]}" if within else "a group or a key"
        raise ValueError(f"{word} must be {where}; " + (f"did you mean {likest[0]}?" if likest else "see --help"))

    def _group(self, group: str, names: Sequence[str]) -> str:
        chosen = self.choices.get(group)
        lines = [f"{group}={chosen or 'CHOICE'}", ""]
        for name in names:
            lines.append(wrapped(f"{name}: {choice_of(self.folders, group, name).summary}", 4, 8))
        if chosen in names:
            keys = self._keys(group)
            lines += ["", f"Keys of {group}={chosen}:", "", keys_shown(map(self._with_value, keys))]
            if not keys:
                lines[-3:] = [f"{group}={chosen} has no keys."]
        return "\n".join(lines)

    def _keys(self, group: str) -> Sequence[KeyReference]:
        return choice_of(self.folders, group, self.choices[group]).keys

    def _with_value(self, key: KeyReference) -> KeyReference:
        """The key with the value that it has, which another file or the command line may have changed."""
        node: Any = self.composed
        for name in key.name.split("."):
            if not isinstance(node, DictConfig) or name not in node:
                return key
            node = node._get_node(name)  # without following references
        value = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node._value()
        if key.part_of or key.default is None or value == yaml.safe_load(key.default):
            return key
        now = yaml.safe_dump(value, default_flow_style=True, width=WIDTH).removesuffix("...\n").strip()
        return replace(key, default=now, kind="; ".join(filter(None, (key.kind, f"default {key.default}"))))


def _key_shown(key: KeyReference, indent: int) -> str:
    if key.part_of:
        head, told = f"{key.part_of}={key.default}", f"{key.meaning}; see --help {key.part_of}"
    else:
        head, told = f"{key.name}: {key.default}" if key.default is not None else f"+{key.name}", key.meaning
    lines = [wrapped(head, indent, indent + 4), wrapped(told, indent + 4)]
    if (values := ", ".join(filter(None, (key.kind, key.limits)))) and not key.part_of:
        lines.append(wrapped(f"({values})", indent + 4))
    return "\n".join(lines)
