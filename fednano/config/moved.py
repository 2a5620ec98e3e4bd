"""Current names of classes and keys that have moved, so that what was written for earlier versions still works."""

import re
from collections.abc import Sequence
from typing import Any

MOVED = {
    "fednano.flower.planner": "fednano.federation.planner",
    "fednano.flower.rounds": "fednano.federation.round_length",
    "fednano.report.wandb_sink": "fednano.report.tracking.wandb_sink",
    "fednano.runtime.deployment.Deployment": "fednano.runtime.deployment.deployment.Deployment",
    "fednano.runtime.provision": "fednano.runtime.deployment.nodes.provision",
    "fednano.runtime.simulation": "fednano.runtime.ray.simulation",
    "fednano.strategy.diloco.DiLoCo": "fednano.strategy.synchronous.Synchronous",
    "fednano.strategy.outer.Nesterov": "fednano.strategy.outer.nesterov.Nesterov",
    "fednano.strategy.outer.SGD": "fednano.strategy.outer.sgd.SGD",
    "fednano.volatility.signals": "fednano.runtime.deployment.nodes.signals",
    "fednano.volatility.supply": "fednano.energy.supply",
}

LOGGER_KEYS = ("project", "mode", "name", "group", "tags")
"""Keys of the W&B logger, which stood in `logger` itself when there could be one logger only."""


def with_current_keys(overrides: Sequence[str]) -> list[str]:
    """The overrides, with keys of the W&B logger at their current place if they choose that logger.

    A logger of the user's own may have keys of these names.
    """
    chosen = [re.split(r"[\[\],'\" ]+", word.partition("=")[2]) for word in overrides if word.startswith("logger=")]
    if not any("wandb" in names for names in chosen):
        return list(overrides)
    return [re.sub(rf"^([+~]*)logger\.({'|'.join(LOGGER_KEYS)})(?==|$)", r"\1logger.wandb.\2", w) for w in overrides]


def moved_key(key: str) -> str | None:
    """Where a key of an earlier version is now; None if it has not moved."""
    group, _, name = key.partition(".")
    return f"logger.wandb.{name}" if group == "logger" and name in LOGGER_KEYS else None


def with_current_targets(node: Any) -> Any:
    """A copy of a plain configuration whose `_target_` entries give the classes' current paths."""
    if isinstance(node, dict):
        return {k: current_target(v) if k == "_target_" else with_current_targets(v) for k, v in node.items()}
    if isinstance(node, list):
        return [with_current_targets(item) for item in node]
    return node


def current_target(target: Any) -> Any:
    """The current path of the class at `target`, an import path of this or an earlier version."""
    if not isinstance(target, str):
        return target
    module, _, name = target.rpartition(".")
    if target in MOVED:
        return MOVED[target]
    return f"{MOVED[module]}.{name}" if module in MOVED else target
