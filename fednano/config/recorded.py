"""Digest of the configuration recorded in a run folder."""

import hashlib
import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

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
