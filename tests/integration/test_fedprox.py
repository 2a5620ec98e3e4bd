"""Runs with FedProx's part on clients."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from fednano.config.compose import compose_config
from fednano.experiment.experiment import Experiment

Run = Callable[..., dict[str, Any]]

STEADY = ("clients=2", "volatility.mean_up_s=100000", "rounds=2")


def first_norm(summary: dict[str, Any]) -> float:
    """The norm of a run's first pseudo-gradient."""
    lines = (summary["folder"] / "events.jsonl").read_text().splitlines()
    return next(event["norm"] for event in map(json.loads, lines) if event["event"] == "RoundMerged")


def test_a_weight_of_0_is_fedavg_and_a_large_one_holds_clients_back(run: Run) -> None:
    plain = run(*STEADY, "strategy=fedavg", folder="plain")
    none = run(*STEADY, "strategy=fedprox", "strategy.client.mu=0", folder="none")
    strong = run(*STEADY, "strategy=fedprox", "strategy.client.mu=100", folder="strong")
    assert none["weights_sha256"] == plain["weights_sha256"]
    assert (none["strategy"], plain["strategy"]) == ("fedprox", "fedavg")
    assert first_norm(strong) < 0.9 * first_norm(plain)


def test_it_combines_with_any_outer_optimizer(run: Run) -> None:
    plain = run(*STEADY, "strategy=diloco", folder="plain")
    chosen = run(*STEADY, "strategy=diloco", "strategy/client=proximal", "strategy.client.mu=100", folder="chosen")
    given = "strategy.client={_target_: fednano.strategy.fedprox.Proximal, mu: 100}"
    named = run(*STEADY, "strategy=diloco", given, folder="named")
    assert named["weights_sha256"] == chosen["weights_sha256"] != plain["weights_sha256"]
    taken_back = run(*STEADY, "strategy=fedprox", "strategy/client=none", "strategy.name=fedavg", folder="back")
    assert taken_back["strategy"] == "fedavg"


@pytest.mark.slow
def test_workers_do_the_same(run: Run) -> None:
    options = (*STEADY, "strategy=fedprox", "strategy.client.mu=1")
    one, two = run(*options, folder="one"), run(*options, "hardware.workers=2", folder="two")
    assert one["weights_sha256"] == two["weights_sha256"]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["strategy.client.mu=-1"], r"strategy\.client\.mu must be >= 0 and finite, got -1; about 0\.01 is usual"),
        (["round.overlap=2"], r"round\.overlap must be 0 with strategy=fedprox, got 2"),
    ],
)
def test_bad_choices(tiny: list[str], overrides: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Experiment(compose_config([*tiny, "strategy=fedprox", *overrides]))
