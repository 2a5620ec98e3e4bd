"""Current paths of classes that have moved, so that configurations of earlier versions still work."""

from typing import Any

MOVED = {
    "fednano.flower.planner": "fednano.federation.planner",
    "fednano.flower.rounds": "fednano.federation.round_length",
    "fednano.runtime.deployment.Deployment": "fednano.runtime.deployment.deployment.Deployment",
    "fednano.runtime.provision": "fednano.runtime.deployment.nodes.provision",
    "fednano.runtime.simulation": "fednano.runtime.ray.simulation",
    "fednano.strategy.diloco.DiLoCo": "fednano.strategy.synchronous.Synchronous",
    "fednano.strategy.outer.Nesterov": "fednano.strategy.outer.nesterov.Nesterov",
    "fednano.strategy.outer.SGD": "fednano.strategy.outer.sgd.SGD",
    "fednano.volatility.signals": "fednano.runtime.deployment.nodes.signals",
    "fednano.volatility.supply": "fednano.energy.supply",
}


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
