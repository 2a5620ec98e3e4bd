"""The objects of the configuration's groups, a user's own among them."""

import re
from typing import Any

import pytest

from fednano.config.compose import compose_config
from fednano.core.tensors import State
from fednano.experiment.experiment import Experiment
from fednano.strategy.base import ServerState


class Mine:
    """A strategy that inherits nothing."""

    overlaps = False
    name = "mine"
    local_steps = 4
    quorum = 1
    slack = 2.0

    def weight(self, tokens: int, steps: int) -> float:
        return float(tokens)

    def merge(self, state: ServerState, mean_delta: State) -> ServerState:
        return state


class Unfinished:
    name = "unfinished"
    local_steps = 4
    slack = 2.0
    overlaps = False

    def weight(self, tokens: int, steps: int) -> float:
        return 1.0


def with_strategy(tiny: list[str], cls: type) -> Experiment:
    cfg: Any = compose_config(tiny)
    cfg.strategy = {"_target_": f"{__name__}.{cls.__name__}"}
    return Experiment(cfg)


def test_a_class_of_the_users_own_needs_no_ancestor(tiny: list[str]) -> None:
    assert isinstance(with_strategy(tiny, Mine).groups.strategy, Mine)


def test_what_a_class_lacks_is_named(tiny: list[str]) -> None:
    says = (
        f"strategy must have the members of fednano.strategy.base.Strategy, got {__name__}.Unfinished without "
        "quorum, merge; add what is missing"
    )
    with pytest.raises(ValueError, match=re.escape(says)):
        with_strategy(tiny, Unfinished)
