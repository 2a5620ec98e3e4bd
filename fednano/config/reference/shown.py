"""The reference of configuration keys as plain text, in lines of at most 80 characters."""

import difflib
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fednano.config.reference.keys import ChoiceReference, KeyReference, choice_of, groups_of

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


def explanation(word: str, folders: Sequence[Path], choices: Mapping[str, str], root: Sequence[KeyReference]) -> str:
    """What `--help WORD` prints: of a group, its choices and the keys of the one that is made; of a key, its meaning.

    `choices` are those that are made, by group; `root` are the keys outside the groups.

    Raises ValueError if the word is neither a group nor a key.
    """
    groups = groups_of(*folders)
    if word in groups:
        return _group_shown(word, groups[word], folders, choices)
    group = word.replace(".", "/")
    while group and group not in groups:
        group = group.rpartition("/")[0]
    if group and choices.get(group) is None:
        raise ValueError(f"{word} must belong to a choice that is made, got none of {group}; add {group}=CHOICE")
    keys = choice_of(folders, group, choices[group]).keys if group else root
    if found := [key for key in keys if f"{key.name}.".startswith(f"{word}.")]:
        return keys_shown(found)
    likest = difflib.get_close_matches(word, [*groups, *(key.name for key in keys)], 1)
    where = f"a key of {group}={choices[group]}" if group else "a group or a key"
    raise ValueError(f"{word} must be {where}; " + (f"did you mean {likest[0]}?" if likest else "see --help"))


def _group_shown(group: str, names: Sequence[str], folders: Sequence[Path], choices: Mapping[str, str]) -> str:
    chosen = choices.get(group)
    lines = [f"{group}={chosen or 'CHOICE'}", ""]
    for name in names:
        lines.append(wrapped(f"{name}: {choice_of(folders, group, name).summary}", 4, 8))
    if chosen is not None:
        lines += ["", *_choice_shown(choice_of(folders, group, chosen))]
    return "\n".join(lines)


def _choice_shown(choice: ChoiceReference) -> list[str]:
    if not choice.keys:
        return [f"{choice.group}={choice.name} has no keys."]
    return [f"Keys of {choice.group}={choice.name}:", "", keys_shown(choice.keys)]


def _key_shown(key: KeyReference, indent: int) -> str:
    if key.part_of:
        head, told = f"{key.part_of}={key.default}", f"{key.meaning}; see --help {key.part_of}"
    else:
        head, told = f"{key.name}: {key.default}" if key.default is not None else f"+{key.name}", key.meaning
    lines = [wrapped(head, indent, indent + 4), wrapped(told, indent + 4)]
    if (values := ", ".join(filter(None, (key.kind, key.limits)))) and not key.part_of:
        lines.append(wrapped(f"({values})", indent + 4))
    return "\n".join(lines)
