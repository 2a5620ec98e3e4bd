"""Checks of a resolved configuration against the classes that it names, before any of them is instantiated."""

import difflib
import inspect
import types
from collections.abc import Iterable, Sequence
from dataclasses import fields
from enum import Enum
from os import PathLike
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from fednano.config.errors import encodable, shown
from fednano.config.targets import PARTIAL, check_special, imported, is_special
from fednano.core.ranges import LEAST, MOST, Range, usual

MISSING = "???"
LONGEST = 4096  # characters of a string, as of a path
MOST_LISTED, FEW = 160, 5  # characters of a list of names, and names of a longer one


def check_node(node: dict[str, Any], where: str) -> None:
    """Check the settings of one `_target_` and of every `_target_` nested in it.

    Raises:
        ValueError: an unknown, missing or mistyped setting; the message names key, value and remedy.
    """
    if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
        given = node.get("_target_") if isinstance(node, dict) else node
        raise ValueError(
            f"{where}._target_ must be the dotted path of a class, got {'nothing' if given is None else given}; "
            f"add it to the YAML file, or choose another {where}"
        )
    cls = imported(node["_target_"], where)
    check_special(node, where)
    signature, hints = settings_of(cls, node["_target_"], where)
    for key, value in node.items():
        if is_special(key):
            continue
        full = f"{where}.{key}"
        if key not in signature.parameters:
            known = listed(signature.parameters, key)
            raise ValueError(
                f"{full}={shown(value)} sets a key that {cls.__name__} does not have; "
                + (f"use one of {known}" if known else "it has no keys")
                + _of_another_class(cls, where)
            )
        if value == MISSING:
            raise ValueError(not_set(full))
        if isinstance(value, dict) and "_target_" in value:
            check_node(value, full)
            continue
        _check_items(value, full)
        check_value(full, value, hints.get(key, Any))
    for key, parameter in signature.parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in node and not node.get(PARTIAL):
            raise ValueError(not_set(f"{where}.{key}", "+"))


def _of_another_class(cls: type, where: str) -> str:
    """What to do about a key that a user's class has from the file that its own begins with."""
    group, _, part = where.partition(".")
    if not part or cls.__module__.partition(".")[0] == "fednano":
        return ""
    return (
        f"; if it comes from the file that yours begins with, put {cls.__name__} into a file of its own, "
        f"{group}/{part}/NAME.yaml, and choose {group}/{part}=NAME"
    )


def _check_items(value: Any, where: str) -> None:
    """Check every `_target_` inside a mapping or a list."""
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            check = check_node if isinstance(item, dict) and "_target_" in item else _check_items
            check(item, f"{where}.{name}")


def check_record(node: Any, cls: type, where: str) -> None:
    """Check a mapping of settings without a `_target_` against the dataclass `cls`; keys may be missing.

    Raises:
        ValueError: `node` is not a mapping, or a setting is unknown or mistyped.
    """
    hints = get_type_hints(cls, include_extras=True)
    known = [field.name for field in fields(cls)]
    if not isinstance(node, dict):
        raise ValueError(
            f"{where} must hold keys, got {shown(node)}; set {', '.join(f'{where}.{key}' for key in known)}"
        )
    for key, value in node.items():
        if key not in known:
            raise ValueError(
                f"{where}.{key}={shown(value)} sets a key that does not exist; use one of {', '.join(known)}"
            )
        check_value(f"{where}.{key}", value, hints[key])


def check_value(key: str, value: Any, hint: Any) -> None:
    """Raise ValueError unless a plain `value` fits the annotation `hint`, with its range if it has one."""
    if value == MISSING:
        raise ValueError(not_set(key))
    if isinstance(value, dict) and get_origin(hint) is dict and all(isinstance(name, str) for name in value):
        for name, item in value.items():
            check_value(f"{key}.{name}", item, get_args(hint)[1])
        return
    if not _fits(value, hint):
        raise ValueError(f"{key} must be {described(hint)}, got {shown(value)}; {_remedy(key, value, hint)}")
    if said := _refused(value, hint):
        raise ValueError(f"{key} must {said}")


def setting_names(target: str, where: str) -> list[str] | None:
    """The names of the settings that a class takes; None if it cannot be imported, or may not."""
    try:
        return list(settings_of(imported(target, where), target, where)[0].parameters)
    except ValueError:
        return None


def listed(names: Iterable[str], near: str) -> str:
    """Names with commas between them; of many, those most like `near`."""
    all_of_them = ", ".join(names)
    if len(all_of_them) <= MOST_LISTED:
        return all_of_them
    likest = sorted(names, key=lambda name: -difflib.SequenceMatcher(None, near, name).ratio())
    return f"{', '.join(likest[:FEW])} and others"


def not_set(key: str, sign: str = "") -> str:
    """The message for a key without a value; `sign` is + if the configuration lacks the key."""
    return f"{key} is not set; add {sign}{key}=VALUE"


def settings_of(cls: Any, target: str, where: str) -> tuple[inspect.Signature, dict[str, Any]]:
    """The signature of a class's constructor, and the annotations of its settings. Raises ValueError."""
    try:
        hints = get_type_hints(cls, include_extras=True)
        if inspect.isclass(cls):
            hints |= get_type_hints(cls.__init__, include_extras=True)
        return inspect.signature(cls), hints
    except Exception as error:
        raise ValueError(
            f"{where}._target_={shown(target)} has no settings that can be read ({error}); give the dotted path of a "
            "class"
        ) from error


def _fits(value: Any, hint: Any) -> bool:  # noqa: PLR0911  # one for each kind of annotation
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _fits(value, arguments[0])
    if origin in (Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if hint in (int, float):
        return not isinstance(value, bool) and isinstance(value, int if hint is int else (int, float))
    if hint in (str, bool, type(None)):
        return isinstance(value, hint)
    if origin in (tuple, list, Sequence, dict):
        kind = dict if origin is dict else list
        items = value.values() if isinstance(value, dict) else value
        named = not isinstance(value, dict) or all(_fits(name, arguments[0]) for name in value)
        return isinstance(value, kind) and named and all(_fits(item, arguments[origin is dict]) for item in items)
    if isinstance(hint, type) and not issubclass(hint, Enum | PathLike) and hint not in (object, Any):
        return isinstance(value, dict) and "_target_" in value
    return True


_EXAMPLES = (4, 0.5, 1, 100, [4, 8], [0.5, 0.8], ["A", "B"])


def _remedy(key: str, value: Any, hint: Any) -> str:
    """What to write instead of a value that does not fit its annotation."""
    if isinstance(value, float) and value.is_integer() and _fits(int(value), hint):
        return f"write {int(value)}"
    if isinstance(value, int | float | bool) and _fits(str(value), hint):
        return f"quote it as {key}='\"{str(value).lower()}\"'"
    for example in _EXAMPLES:
        if _fits(example, hint) and not _refused(example, hint):
            written = str(example).replace("'", "").replace(" ", "")
            return f"write {key}={written}, for example"
    if get_origin(hint) is dict:
        return f"write {key}={{NAME: VALUE}}"
    return "choose one of them" if get_origin(hint) is Literal else f"write {described(hint)}"


def _refused(value: Any, hint: Any) -> str:  # one for each kind of annotation
    """What a value that fits its annotation must do and got instead; empty if nothing is wrong with it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        ranges = [extra for extra in arguments[1:] if isinstance(extra, Range)]
        return _outside(value, ranges) if ranges else _refused(value, arguments[0])
    if origin in (Union, types.UnionType):
        tried = [_refused(value, argument) for argument in arguments if _fits(value, argument)]
        return "" if "" in tried else tried[0]
    if isinstance(value, list | dict):
        inner = arguments[origin is dict] if origin in (tuple, list, Sequence, dict) else Any
        contents = value.values() if isinstance(value, dict) else value
        return next((said for item in contents if (said := _refused(item, inner))), "")
    return _refused_text(value) if isinstance(value, str) else _refused_number(value)


def _outside(value: Any, ranges: Sequence[Range]) -> str:
    """As `_refused`, for a number or a list of numbers with ranges."""
    for item in value if isinstance(value, list) else [value]:
        for limits in ranges:
            if isinstance(item, int | float) and not limits.holds(item):
                condition, remedy = limits.missed(item)
                return f"be {condition}, got {shown(item)}; {remedy}"
        if isinstance(item, int) and not usual(item):
            return _refused_number(item)
    return ""


def _refused_number(value: Any) -> str:
    if not isinstance(value, int | float) or usual(value):
        return ""
    if isinstance(value, int):
        return f"fit into 64 bits, got {shown(value)}; use less"
    return f"be 0, or {LEAST:g} to {MOST:g} in size, got {shown(value)}; use such a number"


def _refused_text(value: str) -> str:
    if len(value) > LONGEST:
        return f"have at most {LONGEST} characters, got {len(value)}; shorten it"
    if "\0" in value or not encodable(value):
        return f"be text without null characters and in UTF-8, got {shown(ascii(value))}; write it in UTF-8"
    return ""


_NAMES = {int: "a whole number", float: "a number", str: "a string", bool: "true or false", type(None): "null"}


def described(hint: Any) -> str:  # noqa: PLR0911  # one for each kind of annotation
    """The values that an annotation allows, in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return described(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(described(argument) for argument in arguments)
    if origin is Literal:
        *others, last = map(str, arguments)
        return f"{', '.join(others)} or {last}" if others else last
    if origin in (tuple, list, Sequence):
        return f"a list whose items are each {described(arguments[0])}"
    if origin is dict:
        return f"a mapping of names whose values are each {described(arguments[1])}"
    if isinstance(hint, type) and hint not in _NAMES:
        return f"an object with a _target_, as {hint.__name__} asks for"
    return _NAMES.get(hint, str(hint))
