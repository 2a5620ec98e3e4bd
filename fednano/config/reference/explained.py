"""What docstrings say about the settings of a class: the lines of their `Args:` sections."""

import inspect
import re
import sys
from typing import Any

_SECTION = re.compile(r"[A-Z]\w+:")
_ARGUMENT = re.compile(r" {4}(?P<name>\w+): (?P<text>.*)")
_SEE = re.compile(r"see `(?P<cls>\w+)`\.?")


def explained(cls: Any) -> dict[str, str]:
    """The settings that the docstrings of a class and its bases explain, and what they say, as one line each.

    `a: see `Other`.` stands for what the class Other, which the module has, says about a.
    """
    found: dict[str, str] = {}
    for each in reversed(inspect.getmro(cls) if inspect.isclass(cls) else (cls,)):
        for name, text in _arguments(getattr(each, "__doc__", None) or "").items():
            if see := _SEE.fullmatch(text):
                other = vars(sys.modules[each.__module__]).get(see["cls"])
                text = explained(other).get(name, "") if inspect.isclass(other) else ""  # noqa: PLW2901
            if text:
                found[name] = text
    return found


def _arguments(docstring: str) -> dict[str, str]:
    """The names in an `Args:` section and their texts, as written."""
    found: dict[str, str] = {}
    inside, last = False, ""
    for line in inspect.cleandoc(docstring).splitlines():
        if _SECTION.fullmatch(line):
            inside = line == "Args:"
        elif not inside or not line.strip():
            continue
        elif argument := _ARGUMENT.fullmatch(line):
            last = argument["name"]
            found[last] = argument["text"].strip()
        elif line.startswith(" " * 8) and last:
            found[last] += f" {line.strip()}"
        else:
            inside = False
    return found
