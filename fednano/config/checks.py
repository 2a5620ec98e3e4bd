"""Checks of a resolved configuration against the classes that it names, before any of them is instantiated."""

import inspect
import types
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from fednano.config.targets import PARTIAL, check_special, imported, is_special

MISSING = "???"


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
    signature = inspect.signature(cls)
    hints = get_type_hints(cls)
    for key, value in node.items():
        if is_special(key):
            continue
        full = f"{where}.{key}"
        if key not in signature.parameters:
            known = ", ".join(signature.parameters)
            raise ValueError(
                f"{full}={value} sets a key that {cls.__name__} does not have; "
                + (f"use one of {known}" if known else "it has no keys")
            )
        if value == MISSING:
            raise ValueError(f"{full} is not set; add {full}=VALUE")
        if isinstance(value, dict) and "_target_" in value:
            check_node(value, full)
            continue
        check_value(full, value, hints.get(key, Any))
        _check_items(value, full)
    for key, parameter in signature.parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in node and not node.get(PARTIAL):
            raise ValueError(f"{where}.{key} is not set; add +{where}.{key}=VALUE")


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
    hints = get_type_hints(cls)
    known = [field.name for field in fields(cls)]
    if not isinstance(node, dict):
        raise ValueError(f"{where} must hold keys, got {node}; set {', '.join(f'{where}.{key}' for key in known)}")
    for key, value in node.items():
        if key not in known:
            raise ValueError(f"{where}.{key}={value} sets a key that does not exist; use one of {', '.join(known)}")
        check_value(f"{where}.{key}", value, hints[key])


def check_value(key: str, value: Any, hint: Any) -> None:
    """Raise ValueError unless a plain `value` fits the annotation `hint`."""
    if not _fits(value, hint):
        raise ValueError(f"{key} must be {_described(hint)}, got {_shown(value)}; change it")


def _shown(value: Any) -> str:
    """A value as YAML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
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
        return isinstance(value, kind) and all(_fits(item, arguments[origin is dict]) for item in items)
    return True  # a nested object, which check_node checks on its own


_NAMES = {int: "a whole number", float: "a number", str: "a string", bool: "true or false", type(None): "null"}


def _described(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_described(argument) for argument in arguments)
    if origin is Literal:
        *others, last = map(str, arguments)
        return f"{', '.join(others)} or {last}" if others else last
    if origin in (tuple, list, Sequence):
        return f"a list whose items are each {_described(arguments[0])}"
    if origin is dict:
        return f"a mapping of names whose values are each {_described(arguments[1])}"
    return _NAMES.get(hint, str(hint))
