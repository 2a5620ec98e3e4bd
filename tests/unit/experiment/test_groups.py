"""The objects of the configuration's groups, a user's own among them."""

import math
import re
from typing import Any

import pytest

from fednano.config.compose import compose_config
from fednano.experiment.experiment import Experiment
from fednano.volatility.membership import Members
from fednano.volatility.profiles import Profile


class Mine:
    """A planner that inherits nothing."""

    def plan(self, profile: Profile) -> Profile:
        return profile

    def known_end(self, membership: Members, client: str, now: float) -> float:
        return math.inf


class Unfinished:
    def plan(self, profile: Profile) -> Profile:
        return profile


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDNANO_ALLOW_MODULES", __name__)


def with_planner(tiny: list[str], cls: type) -> Experiment:
    cfg: Any = compose_config(tiny)
    cfg.planner = {"_target_": f"{__name__}.{cls.__name__}"}
    return Experiment(cfg)


def test_a_class_of_the_users_own_needs_no_ancestor(tiny: list[str]) -> None:
    assert isinstance(with_planner(tiny, Mine).groups.planner, Mine)


def test_what_a_class_lacks_is_named(tiny: list[str]) -> None:
    says = (
        f"planner must have the members of fednano.federation.planner.Planner, got {__name__}.Unfinished without "
        "known_end; add these members"
    )
    with pytest.raises(ValueError, match=re.escape(says)):
        with_planner(tiny, Unfinished)
