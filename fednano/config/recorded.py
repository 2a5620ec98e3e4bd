"""Check of a configuration that was recorded in a run's folder, or sent by a server: it may be somebody else's."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from fednano.config.moved import with_current_targets
from fednano.config.targets import check_targets


def check_recorded(cfg: DictConfig, given: str) -> None:
    """Raise ValueError if the configuration names a class that is not allowed, or calls a resolver.

    A resolver such as `oc.env` would put this process's environment into values that somebody else chose.
    fednano records values, so that none is needed. `given` begins the message.
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
