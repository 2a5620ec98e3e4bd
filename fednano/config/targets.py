"""The limits of `_target_`: which modules a configuration may name, checked before anything is imported."""

import importlib
import inspect
import os
from collections.abc import Collection, Iterable
from typing import Any

from fednano.config.errors import shown
from fednano.config.places import own_modules

# Child processes inherit it. No configuration and no message sets it: only a process's own command line.
VARIABLE = "FEDNANO_ALLOW_MODULES"
TARGET, PARTIAL = "_target_", "_partial_"
FLOWERS, WRAPPED = "flwr.serverapp.strategy", "strategy.wrapped"  # the module that this one key may name as well
IN_FORCE = {"_convert_": "all", "_recursive_": True}  # Hydra's other keys, at the only values that hold here


def allow(modules: Iterable[str]) -> None:
    """Allow modules, and what is inside them, in this process and its children. Raises ValueError for a bad name."""
    modules = list(modules)
    for module in modules:
        if not _dotted(module):
            raise ValueError(
                f"--allow-module must be the dotted name of a module, got {module or 'nothing'}; use the part of "
                "_target_ before the class's name"
            )
    if new := [module for module in modules if module not in own_modules()]:
        os.environ[VARIABLE] = ",".join(dict.fromkeys([*allowed(), *new]))


def allowed() -> list[str]:
    """The modules that the user has allowed."""
    return [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]


def is_allowed(module: str, also: Collection[str] = ()) -> bool:
    """Whether the user has allowed the module or one that contains it; `also` are allowed too."""
    return any(module == name or module.startswith(f"{name}.") for name in (*allowed(), *also))


def check_targets(node: Any, where: str, also: Collection[str] = ()) -> None:
    """Check the modules of all `_target_` entries of a resolved configuration, at any depth. Imports nothing.

    Raises ValueError for one outside fednano's choices and the modules that are allowed, by the user or in `also`.
    """
    if isinstance(node, dict):
        if TARGET in node:
            _check_target(node[TARGET], where, also)
        for key, child in node.items():
            check_targets(child, f"{where}.{key}", also)
    elif isinstance(node, list):
        for index, child in enumerate(node):
            check_targets(child, f"{where}.{index}", also)


def _check_target(target: Any, where: str, also: Collection[str]) -> None:
    module = str(target).rpartition(".")[0]
    if not isinstance(target, str) or not module or not _dotted(target):
        given = "nothing" if target is None else shown(target)
        raise ValueError(
            f"{where}._target_ must be the dotted path of a class, got {given}; add it to the YAML file, or make "
            "another choice"
        )
    if module in own_modules() or is_allowed(module, also):
        return
    if module == FLOWERS and f"{where}.".startswith(f"{WRAPPED}."):
        return
    if module.partition(".")[0] == "fednano":
        raise ValueError(
            f"{where}._target_ must be one of fednano's choices, got {shown(target)}; name a class as a YAML file of "
            "its conf/ does"
        )
    raise ValueError(
        f"{where}._target_ must be a class of fednano or of an allowed module, got {shown(target)}; add --allow-module "
        f"{module}"
    )


def imported(target: str, where: str) -> Any:
    """The class that a checked `_target_` names; of a user's module, a function that makes objects will do.

    Raises ValueError if it cannot be imported, is neither, or was only imported there from elsewhere.
    """
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except SyntaxError as error:
        raise ValueError(
            f"{where}._target_={shown(target)} cannot be imported: {error.filename}, line {error.lineno}, is no Python "
            f"({error.msg}); correct the file"
        ) from error
    except Exception as error:  # whatever a module of the user's own raises
        raise ValueError(
            f"{where}._target_={shown(target)} cannot be imported ({error}); give the dotted path of a class, and run "
            "the command in the folder that holds its module or add that folder to PYTHONPATH"
        ) from error
    home = str(getattr(found, "__module__", None))
    ours = module in own_modules() and not is_allowed(module)
    if not inspect.isclass(found) and (ours or not inspect.isroutine(found)):
        raise ValueError(f"{where}._target_ must be a class, got {shown(target)}; name a class")
    same = home == module if ours else home.partition(".")[0] == module.partition(".")[0] or is_allowed(home)
    if not same:
        raise ValueError(
            f"{where}._target_ must be defined in its module, got {shown(target)} of {home}; name a class that is "
            f"defined in {module.partition('.')[0]}"
        )
    return found


def check_special(node: dict[str, Any], where: str) -> None:
    """Check the keys of one `_target_` that are no arguments. Raises ValueError."""
    if not isinstance(node.get(PARTIAL, False), bool):
        raise ValueError(f"{where}.{PARTIAL} must be true or false, got {node[PARTIAL]}; write true or false")
    if "_args_" in node:
        raise ValueError(f"{where}._args_ must not be set, got {node['_args_']}; give arguments by name")
    for key, value in IN_FORCE.items():
        if node.get(key, value) != value:
            raise ValueError(f"{where}.{key} must be {str(value).lower()}, got {node[key]}; leave it out")


def is_special(key: str) -> bool:
    """Whether a key beside `_target_` is no argument of its class."""
    return key in (TARGET, PARTIAL, "_args_", *IN_FORCE)


def _dotted(name: str) -> bool:
    return all(word.isidentifier() for word in name.split("."))
