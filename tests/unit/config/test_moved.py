"""Configurations of earlier versions name classes where they were."""

from importlib import import_module

from omegaconf import OmegaConf

from fednano.config.build import build_groups
from fednano.config.moved import MOVED, with_current_targets
from fednano.federation.planner import Blind
from fednano.federation.round_length import Rounds


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


def test_targets_are_found_at_any_depth() -> None:
    node = {"parts": [{"_target_": "fednano.volatility.supply.Column"}], "other": "fednano.volatility.supply.Column"}
    moved = {"parts": [{"_target_": "fednano.energy.supply.Column"}], "other": "fednano.volatility.supply.Column"}
    assert with_current_targets(node) == moved
    assert with_current_targets({"_target_": "mine.median.Median"}) == {"_target_": "mine.median.Median"}
