"""The `logger` group, of which several choices can be merged: each has its keys below its own name."""

from collections.abc import Mapping
from typing import Any

from fednano.config.checks import MISSING
from fednano.config.errors import shown
from fednano.config.moved import LOGGER_KEYS
from fednano.config.places import conf_dir
from fednano.config.targets import TARGET

GROUP = "logger"


def choices_in(node: Any) -> dict[str, Any]:
    """The loggers of a plain `logger` node, by name.

    "" is one whose keys stand in `logger` itself, as in run folders of earlier versions and YAML files of a user's own.
    Keys of the W&B logger that stand there are its own, as they were in earlier versions.

    Raises ValueError if there is no logger, or a key that belongs to none.
    """
    if node in (None, MISSING, {}):
        raise ValueError(f"{GROUP} is not set; add {GROUP}=CHOICE")
    if not isinstance(node, Mapping):
        return {"": node}  # checked like any other group
    if TARGET in node:
        ours = {path.stem for path in (conf_dir() / GROUP).glob("*.yaml")}
        beside = {name: child for name, child in node.items() if name in ours and _is_logger(child)}
        return {**beside, "": {key: value for key, value in node.items() if key not in beside}}
    found = {str(name): child for name, child in node.items() if _is_logger(child)}
    stray = {str(key): value for key, value in node.items() if str(key) not in found}
    for key, value in stray.items():
        if key not in LOGGER_KEYS or "wandb" not in found:
            place = f"{GROUP}.{'wandb' if key in LOGGER_KEYS else 'NAME'}.{key}"
            raise ValueError(
                f"{GROUP}.{key}={shown(value)} sets a key that does not exist; write it below the name of its choice, "
                f"as {place}"
            )
    if stray:
        found["wandb"] = {**found["wandb"], **stray}
    return found


def check_all_there(node: Any, names: list[str]) -> None:
    """Raise ValueError if choices that were merged into `node` have replaced each other."""
    found = choices_in(node)
    if len(found) < len(names):
        mixed = [name for name in names if name not in node]
        raise ValueError(
            f"{GROUP}=[{','.join(names)}] must be choices that have their keys below their own names, got "
            f"{' and '.join(mixed)} without; in {mixed[0]}.yaml, put all keys below {mixed[0]}:"
        )


def _is_logger(child: Any) -> bool:
    return isinstance(child, Mapping) and TARGET in child
