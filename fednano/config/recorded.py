"""Check and digest of a configuration that was recorded in a run's folder, or sent by a server."""

import hashlib
import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from fednano.config.moved import with_current_targets
from fednano.config.targets import check_targets

# Groups that runs of earlier versions lack, with the choice that was the only one.
EARLIER = {"guard": {"_target_": "fednano.federation.guard.Unguarded"}}
FREE = ("checkpoint_keep", "logger", "data.root", "data.path")


def config_sha256(config: DictConfig) -> str:
    """The digest of a resolved configuration, without the keys in FREE.

    Those may change before a run is resumed: they cannot change its result, or name where the same data lies now.
    """
    kept = OmegaConf.to_container(config)
    assert isinstance(kept, dict)
    for key in FREE:
        *groups, name = key.split(".")
        held: Any = kept
        for group in groups:
            held = held.get(group)
        if isinstance(held, dict):
            held.pop(name, None)
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def recorded_sha256(folder: Path) -> str:
    """The digest of `config.yaml` in a run folder; "" without one."""
    path = folder / "config.yaml"
    config = OmegaConf.load(path) if path.is_file() else None
    return config_sha256(config) if isinstance(config, DictConfig) else ""


def recorded_config(folder: Path) -> dict[str, Any]:
    """`config.yaml` of a run folder as it stands there, nothing resolved. Raises ValueError for other contents."""
    path = folder / "config.yaml"
    try:
        plain = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (YAMLError, ValueError) as error:
        raise ValueError(f"{path} must hold a run's configuration, got other contents; restore it") from error
    if not isinstance(plain, dict):
        raise ValueError(f"{path} must hold a run's configuration, got a list; restore it")
    return {str(key): value for key, value in plain.items()}


def check_recorded(cfg: DictConfig, given: str) -> None:
    """Raise ValueError if the configuration names a class that is not allowed, or calls a resolver.

    It may be somebody else's. A resolver such as `oc.env` would put this process's environment into values that
    somebody else chose. fednano records values, so that none is needed. `given` begins the message.
    """
    plain = with_current_targets(OmegaConf.to_container(cfg, resolve=False))
    assert isinstance(plain, dict)
    _refuse_resolvers(plain, "", given)
    for key, node in plain.items():
        try:
            check_targets(node, str(key))
        except ValueError as error:
            raise ValueError(f"{given}: {error}, if you trust this configuration") from None


def _refuse_resolvers(node: Any, where: str, given: str) -> None:
    if isinstance(node, dict | list):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            _refuse_resolvers(child, f"{where}.{key}" if where else str(key), given)
    elif isinstance(node, str) and ":" in node.partition("${")[2]:
        raise ValueError(
            f"{given}: {where} must call no resolver in a recorded configuration, got {node}; write the value itself"
        )
