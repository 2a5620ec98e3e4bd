"""The reference of configuration keys: for each choice of a group, its keys with default, type, range and meaning."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from fednano.config.checks import described, settings_of
from fednano.config.reference.explained import explained
from fednano.config.reference.written import WrittenChoice, WrittenValue, read_choice
from fednano.config.targets import TARGET, imported, is_special
from fednano.core.ranges import Range, usual

OWN: Mapping[str, Any] = {"name": str, "resume": str | None}
"""Annotations of the keys outside the groups that are no settings of a run."""
COVERED = 0.6  # share of a text's words
_WORD = re.compile(r"[^\W_]{3,}|\d")
_YAMLS = {"None": "null", "True": "true", "False": "false"}
_LITERAL = re.compile(rf"\b({'|'.join(_YAMLS)})\b")


@dataclass(frozen=True, kw_only=True)
class KeyReference:
    """A key of the configuration.

    Args:
        name: the dotted path, as on the command line.
        default: the value as YAML writes it; None if the class has one and no file names the key.
        kind: the values that it takes, in words; empty if any.
        limits: the range of a number, such as `> 0, ≤ 1`; empty without one.
        meaning: what it decides, in a sentence without a capital; empty if nobody said it.
        part_of: the group of choices that makes this part, such as strategy/outer; empty for a plain value.
    """

    name: str
    default: str | None
    kind: str
    limits: str
    meaning: str
    part_of: str = ""


@dataclass(frozen=True, kw_only=True)
class ChoiceReference:
    """A choice of a group: `GROUP=NAME`.

    Args:
        group: such as strategy, or strategy/outer.
        name: of the choice.
        summary: what it is, in a sentence or two.
        target: dotted path of its class; empty if it has none.
        keys: those of the class and of the YAML file.
        begins_with: the choice whose file it changes; empty for a file that stands alone.
        others: choices that it makes in other groups, with the reason.
    """

    group: str
    name: str
    summary: str
    target: str
    keys: tuple[KeyReference, ...]
    begins_with: str
    others: dict[str, WrittenValue]


def groups_of(*folders: Path) -> dict[str, list[str]]:
    """The groups of configuration folders with the names of their choices; numbers in names count as numbers."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for path in folder.rglob("[!_]*.yaml"):
            if path.parent != folder:
                found.setdefault(path.parent.relative_to(folder).as_posix(), set()).add(path.stem)
    return {group: sorted(names, key=_natural) for group, names in sorted(found.items())}


def choice_of(folders: Sequence[Path], group: str, name: str) -> ChoiceReference:
    """The reference of one choice, from the first of some folders that has it. Imports its class.

    Raises ValueError if no folder has it, or if the class cannot be imported.
    """
    own = _read(folders, group, name)
    merged = _with_parents(folders, group, own)
    place = group.replace("/", ".")
    if own.package is not None:  # a choice that is nothing, or settings of several groups at once
        return _choice(group, name, own, "", ())
    target = merged.keys[TARGET].text if TARGET in merged.keys else ""
    parts = [
        KeyReference(
            name=f"{place}.{part}",
            default=entry.text,
            kind=f"a choice of `{group}/{part}`",
            limits="",
            meaning=entry.comment,
            part_of=f"{group}/{part}",
        )
        for part, entry in merged.parts.items()
        if f"{part}.{TARGET}" not in merged.keys  # the file itself says what takes its place
    ]
    made = {part.name for part in parts}
    keys = [key for key in _keys(merged.keys, place) if key.name not in made]
    return _choice(group, name, own, target, (*parts, *keys))


def record_settings(cls: type) -> tuple[dict[str, Any], dict[str, str]]:
    """Annotations and docstrings of the fields of a dataclass and of those within it, by dotted path."""
    hints, told = dict[str, Any](), explained(cls)
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if is_dataclass(hint) and isinstance(hint, type):
            inner, about = record_settings(hint)
            hints |= {f"{name}.{key}": value for key, value in inner.items()}
            told |= {f"{name}.{key}": value for key, value in about.items()}
        else:
            hints[name] = hint
    return hints, told


def root_keys(written: WrittenChoice, hints: Mapping[str, Any], told: Mapping[str, str]) -> tuple[KeyReference, ...]:
    """The keys of a file that names no class, such as `conf/config.yaml`.

    `hints` are their annotations by dotted path, and `told` what docstrings say about them.
    """
    return tuple(
        KeyReference(
            name=path,
            default=entry.text,
            kind=described(hints[path]) if path in hints else "",
            limits=limits_of(hints.get(path)),
            meaning=_meaning(entry.comment, told.get(path, "")),
        )
        for path, entry in written.keys.items()
        if entry.text
    )


def limits_of(hint: Any) -> str:
    """The ranges that an annotation gives its numbers, such as `> 0, ≤ 1`; empty if it gives none."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        ranges = [extra for extra in arguments[1:] if isinstance(extra, Range)]
        return "; ".join(filter(None, map(_limits, ranges))) or limits_of(arguments[0])
    if origin is not None:
        return "; ".join(dict.fromkeys(filter(None, (limits_of(argument) for argument in arguments))))
    return ""


def _limits(limits: Range) -> str:
    signs = (("≥", limits.ge), (">", limits.gt), ("≤", limits.le), ("<", limits.lt))
    return ", ".join(f"{sign} {_number(value)}" for sign, value in signs if value is not None and usual(value))


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _choice(group: str, name: str, own: WrittenChoice, target: str, keys: tuple[KeyReference, ...]) -> ChoiceReference:
    return ChoiceReference(
        group=group,
        name=name,
        summary=own.summary,
        target=target,
        keys=keys,
        begins_with=next((parent for parent in own.parents if not parent.rpartition("/")[2].startswith("_")), ""),
        others=own.others,
    )


def _natural(name: str) -> tuple[str, int]:
    digits = name[len(name.rstrip("0123456789")) :]
    return name.removesuffix(digits), int(digits or -1)


def _read(folders: Sequence[Path], group: str, name: str) -> WrittenChoice:
    if found := _found(folders, group, name):
        return found
    raise ValueError(f"{group}={name} does not exist; list the choices with --help {group}")


def _found(folders: Sequence[Path], group: str, name: str) -> WrittenChoice | None:
    """A choice of the group or, if it begins with a slash, of any; None for one of a plug-in's package."""
    place = name.lstrip("/") if name.startswith("/") else f"{group}/{name}"
    paths = [path for folder in folders if (path := folder / f"{place}.yaml").is_file()]
    return read_choice(paths[0]) if paths else None


def _with_parents(folders: Sequence[Path], group: str, own: WrittenChoice) -> WrittenChoice:
    """A file over those that it begins with: its values in the place of theirs, their comments where it has none."""
    merged = WrittenChoice(summary=own.summary)
    parents = [found for name in own.parents if (found := _found(folders, group, name))]
    for each in (*(_with_parents(folders, group, parent) for parent in parents), own):
        for path, entry in each.keys.items():
            before = merged.keys.get(path)
            merged.keys[path] = WrittenValue(entry.text, entry.comment or (before.comment if before else ""))
        for part, entry in each.parts.items():  # the first file says what a part is, later ones why it is another
            first = merged.parts.get(part)
            merged.parts[part] = WrittenValue(entry.text, (first.comment if first else "") or entry.comment)
    return merged


def _keys(entries: Mapping[str, WrittenValue], place: str) -> list[KeyReference]:
    """The keys of a mapping whose `_target_` names their class, those of nested classes included."""
    target = entries[TARGET].text if TARGET in entries else ""
    parameters, hints, told = _settings(target, place)
    found: list[KeyReference] = []
    nested = [path.removesuffix(f".{TARGET}") for path in entries if path.count(".") == 1 and path.endswith(TARGET)]
    for name in nested:
        inner = {path.removeprefix(f"{name}."): entry for path, entry in entries.items() if path.startswith(f"{name}.")}
        found += _keys(inner, f"{place}.{name}")
    within = tuple(f"{name}." for name in nested)
    for path, entry in entries.items():
        if path.startswith(within) or path in nested or is_special(path):
            continue
        found.append(_key(f"{place}.{path}", entry, hints.get(path), told.get(path, "")))
    named = {path.partition(".")[0] for path in entries}
    found += [
        _key(f"{place}.{name}", None, hints.get(name), told.get(name, ""))
        for name in parameters
        if name not in named and get_origin(hints.get(name)) is not Callable
    ]
    return found


def _key(name: str, entry: WrittenValue | None, hint: Any, told: str) -> KeyReference:
    return KeyReference(
        name=name,
        default=None if entry is None else entry.text,
        kind="" if hint is None or hint is Any else described(hint),
        limits=limits_of(hint),
        meaning=_meaning("" if entry is None else entry.comment, told),
    )


def _meaning(comment: str, told: str) -> str:
    """What a docstring says about a key and the comment of the YAML file; one of them if the other adds little."""
    told = _LITERAL.sub(lambda found: _YAMLS[found[0]], told).rstrip(".")
    if not told:
        return comment
    while comment.partition("; ")[0] in told and comment:  # such as the symbol in front
        comment = comment.partition("; ")[2]
    if _covered(comment, told):
        return told
    return comment if _covered(told, comment) else f"{told}; {comment}"


def _covered(text: str, by: str) -> bool:
    """Whether most words of a text are in another one, so that it adds little to it."""
    words, others = ({word[:5] for word in _WORD.findall(each.lower())} for each in (text, by))
    return len(words & others) >= COVERED * len(words)


def _settings(target: str, place: str) -> tuple[list[str], dict[str, Any], dict[str, str]]:
    """Names, annotations and docstrings of the settings of a class; nothing for none."""
    if not target or target == "???":
        return [], {}, {}
    cls = imported(target, place)
    signature, hints = settings_of(cls, target, place)
    return list(signature.parameters), hints, explained(cls)
