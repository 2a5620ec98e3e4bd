"""Choices nested in a strategy: each can be made, and exchanged for another from the command line."""

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from support.paths import CONF

from fednano.config.build import build_groups
from fednano.config.compose import compose_config
from fednano.config.errors import ConfigError
from fednano.strategy.outer.adam import Adam
from fednano.strategy.outer.schedule import Cosine
from fednano.strategy.synchronous import Synchronous

FILES = sorted((CONF / "strategy").rglob("*.yaml"))
PARTS = ("outer", "merging", "schedule")


def built(*overrides: str) -> Any:
    return build_groups(compose_config(overrides), ("strategy",))["strategy"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(CONF).as_posix())
def test_a_file_says_what_it_is_and_comments_its_keys(file: Path) -> None:
    first, *rest = file.read_text().splitlines()
    assert first.startswith("# ")
    for line in rest:
        assert re.match(r"#|defaults:$|  - _self_$|$|_target_: |name: ", line) or " # " in line, line


def test_all_parts_go_together() -> None:
    """Every outer optimizer, schedule and merging, made from its file, in one strategy each."""

    def of(file: Path) -> Any:
        return instantiate(OmegaConf.create({"clients": 4, "part": OmegaConf.load(file)}).part)

    made = [[of(file) for file in sorted((CONF / "strategy" / part).glob("*.yaml"))] for part in PARTS]
    for parts in product(*made):
        strategy = Synchronous(name="x", **dict(zip(PARTS, parts, strict=True)))
        assert strategy.quorum == strategy.merging.least


def test_parts_are_exchanged_on_the_command_line() -> None:
    words = ("strategy=fedavg", "strategy/outer=adam", "strategy/merging=median", "strategy/schedule=cosine")
    strategy = built(*words, "strategy.outer.lr=0.1", "strategy.schedule.floor=0.5")
    assert strategy == Synchronous(
        name="fedavg",
        outer=Adam(0.1, 0.5, 0.99, 0.03),
        merging=built("strategy=median").merging,
        schedule=Cosine(floor=0.5),
        quorum=3,
    )


@pytest.mark.parametrize(
    "name", [file.stem for file in FILES if file.parent.name == "strategy" and file.stem != "flower"]
)
def test_a_strategys_own_values_do_not_reach_another_part(name: str) -> None:
    """A value in the strategy's file would be a key that the other part does not have."""
    strategy = built(f"strategy={name}", "strategy/outer=sgd", "strategy/merging=mean", "strategy/schedule=constant")
    assert (strategy.name, strategy.outer.lr, strategy.quorum) == (
        name,
        1.0,
        2 if name in ("fedbuff", "decoupled_diloco") else 1,
    )


def test_keys_are_suggested_by_the_parts_that_are_chosen() -> None:
    with pytest.raises(ConfigError, match=r"did you mean strategy\.schedule\.warmup\?$"):
        compose_config(["strategy/schedule=cosine", "strategy.schedule.warmp=0.2"])
    with pytest.raises(ConfigError, match=r"did you mean strategy\.merging\.share\?$"):
        compose_config(["strategy=trimmed_mean", "strategy.merging.shar=0.2"])
