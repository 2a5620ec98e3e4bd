"""Configurations of earlier versions name classes where they were."""

from dataclasses import replace
from importlib import import_module

from omegaconf import OmegaConf

from fednano.config.build import build_groups
from fednano.config.compose import compose_config
from fednano.config.moved import MOVED, with_current_targets
from fednano.federation.planner import Blind
from fednano.federation.round_length import Rounds
from fednano.strategy.base import Update
from fednano.strategy.outer.sgd import SGD


def test_every_class_that_moved_is_where_it_should_be() -> None:
    for old, new in MOVED.items():
        module, _, name = new.rpartition(".")
        assert hasattr(import_module(module), name) or import_module(new), old


def test_an_old_configuration_builds_the_same_objects() -> None:
    cfg = OmegaConf.create(
        {
            "round": {"_target_": "fednano.flower.rounds.Rounds", "until": "steps"},
            "planner": {"_target_": "fednano.flower.planner.Blind"},
        }
    )
    built = build_groups(cfg, ("round", "planner"))
    assert built == {"round": Rounds(until="steps"), "planner": Blind()}


def test_a_strategy_recorded_before_it_had_parts_means_the_same() -> None:
    """A run folder's configuration; it can be resumed without merging, schedule or the wider weighting."""
    recorded = {
        "_target_": "fednano.strategy.diloco.DiLoCo",
        "name": "diloco",
        "local_steps": 25,
        "quorum": 2,
        "weighting": "tokens",
        "slack": 1.5,
        "outer": {"_target_": "fednano.strategy.outer.Nesterov", "lr": 0.7, "momentum": 0.5},
    }
    old = build_groups(OmegaConf.create({"strategy": recorded}), ("strategy",))["strategy"]
    new = build_groups(compose_config(["strategy.quorum=2"]), ("strategy",))["strategy"]
    assert old == replace(new, weighting="tokens")
    update = Update(client="a", tokens=7, steps=1, version=0, staleness=0)
    assert old.weight(update) == new.weight(update) == 7.0
    plain = {**recorded, "outer": {"_target_": "fednano.strategy.outer.SGD", "lr": 1.0}}
    assert build_groups(OmegaConf.create({"strategy": plain}), ("strategy",))["strategy"].outer == SGD(1.0)


def test_targets_are_found_at_any_depth() -> None:
    node = {"parts": [{"_target_": "fednano.volatility.supply.Column"}], "other": "fednano.volatility.supply.Column"}
    moved = {"parts": [{"_target_": "fednano.energy.supply.Column"}], "other": "fednano.volatility.supply.Column"}
    assert with_current_targets(node) == moved
    assert with_current_targets({"_target_": "mine.median.Median"}) == {"_target_": "mine.median.Median"}
