"""Settings that are paths of the user's: the mark of their annotations, and relative paths made absolute."""

import inspect
import sys
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from fednano.config.moved import current_target

PATH = "a path of the user's"
UserPath = Annotated[str, PATH]  # a file or folder; a relative one is taken from where the command was started
ELSEWHERE = ("package:", "~")  # not relative to any folder


def absolute(path: str, base: Path) -> str:
    """`path` as seen from `base`; one that begins with `~` or names a file of a package stays as it is."""
    return path if not path or path.startswith(ELSEWHERE) else str(base / path)


def with_absolute_paths(node: Any, base: Path | None = None) -> Any:
    """A copy of a plain configuration whose settings that are paths are absolute, seen from `base`.

    Paths are those settings that the class of a `_target_` annotates as `UserPath` or `Path`; nothing is imported to
    find out. `base` is the current folder by default.
    """
    base = base or Path.cwd()
    if isinstance(node, list):
        return [with_absolute_paths(item, base) for item in node]
    if not isinstance(node, dict):
        return node
    hints = _hints(node["_target_"]) if isinstance(node.get("_target_"), str) else {}
    return {
        key: _placed(value, hints[key], base) if _is_path(hints.get(key)) else with_absolute_paths(value, base)
        for key, value in node.items()
    }


def _placed(value: Any, hint: Any, base: Path) -> Any:
    """A value whose annotation holds paths; in a mapping, only the values can be paths."""
    if isinstance(value, str):
        return absolute(value, base)
    if isinstance(value, list):
        return [_placed(item, hint, base) for item in value]
    if isinstance(value, dict):
        return {key: _placed(item, hint, base) for key, item in value.items()}
    return value


def _is_path(hint: Any) -> bool:
    if hint is Path or (get_origin(hint) is Annotated and PATH in hint.__metadata__):
        return True
    arguments = get_args(hint)
    return any(_is_path(argument) for argument in (arguments[1:] if get_origin(hint) is dict else arguments))


def _hints(target: str) -> dict[str, Any]:
    """The annotations of a class's or function's settings; empty unless its module has been imported."""
    module, _, name = current_target(target).rpartition(".")
    named = getattr(sys.modules.get(module), name, None)
    if inspect.isclass(named):
        return get_type_hints(named.__init__, include_extras=True) | get_type_hints(named, include_extras=True)
    return get_type_hints(named, include_extras=True) if callable(named) else {}
