"""References in a configuration, `${…}`, that cannot be resolved: which key is at fault, and what it says."""

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from fednano.config.checks import MISSING, not_set
from fednano.config.errors import ConfigError, one_line, shown

_NAMED = re.compile(r"\$\{([\w.]+)\}")  # absolute references, not those with a resolver
_PREAMBLE = re.compile(r"^\w+ (raised )?while resolving interpolation: ")


def cannot_resolve(error: Exception, cfg: DictConfig, key: str) -> str:
    """The line for the value of `key`, which refers to what does not exist.

    It names the key that does so itself: `hydra.run.dir` refers to `name`, which may refer to nothing.
    """
    key = getattr(error, "full_key", None) or key
    plain, seen = OmegaConf.to_container(cfg, resolve=False), set[str]()
    written = _at(plain, key)
    while key not in seen:
        seen.add(key)
        for name in _NAMED.findall(written) if isinstance(written, str) else ():
            behind = _at(plain, name)
            if behind == MISSING or (isinstance(behind, str) and _fails(cfg, name)):
                key, written = name, behind
                break
    return unresolved(error, key, written)


def require_resolvable(cfg: DictConfig) -> None:
    """Raise ConfigError if a value anywhere refers to what does not exist."""
    try:
        OmegaConf.to_container(cfg, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        raise ConfigError(cannot_resolve(error, cfg, "a key")) from error


def unresolved(error: Exception, key: str, written: Any = None) -> str:
    """The line for `key`, whose value as `written` refers to what does not exist; None: its text is not known."""
    if written == MISSING or (written is None and isinstance(error, MissingMandatoryValue)):
        return not_set(key)
    why = _PREAMBLE.sub("", one_line(error)).strip('"')
    if isinstance(error, InterpolationToMissingValueError):
        why = f"{why.rpartition(' ')[2]} is not set"
    got = "" if written is None else f", got {shown(written)}"
    return f"{key} must refer to values that exist{got} ({why}); correct it"


def _at(plain: Any, key: str) -> Any:
    """The value as written at a key with dots; None if there is none."""
    for name in key.split("."):
        plain = plain.get(name) if isinstance(plain, dict) else None
    return plain


def _fails(cfg: DictConfig, key: str) -> bool:
    try:
        OmegaConf.select(cfg, key, throw_on_missing=True)
    except (OmegaConfBaseException, RecursionError):
        return True
    return False
