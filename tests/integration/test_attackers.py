"""Runs with clients that submit corrupted updates."""

import math
from collections.abc import Callable
from typing import Any

from fednano.core.event_log import read_log
from fednano.core.events import UpdateFolded, UpdateRefused

Run = Callable[..., dict[str, Any]]

STEADY = ("clients=3", "volatility.mean_up_s=100000", "rounds=2", "strategy.local_steps=2", "eval_every=2")
ATTACKED = ("strategy/client=byzantine", "strategy.client.clients=[client_1]")


def test_the_guard_refuses_an_attackers_long_update_and_a_robust_merging_withstands_it(run: Run) -> None:
    honest = run(*STEADY, "strategy=median", folder="honest")
    guarded = run(*STEADY, *ATTACKED, "strategy=fedavg", "strategy.client.attack=scale", folder="guarded")
    events = list(read_log(guarded["folder"] / "events.jsonl"))
    assert [(e.client, e.reason) for e in events if isinstance(e, UpdateRefused)] == [("client_1", "outlying")] * 2
    assert guarded["val_bpb"] < guarded["val_bpb_initial"]

    open_ = (*STEADY, *ATTACKED, "guard=none", "strategy.client.attack=scale")
    assert run(*open_, "strategy=median", folder="median")["val_bpb"] < honest["val_bpb_initial"]
    broken = run(*open_, "strategy=fedavg", folder="broken")["val_bpb"]
    assert broken is None or not broken < honest["val_bpb_initial"]


def test_noise_is_that_of_the_seed(run: Run) -> None:
    def norms(folder: str, seed: int) -> list[float]:
        attack = ("strategy.client.attack=random", "strategy.client.factor=3", f"strategy.client.seed={seed}")
        folded = [e for e in read_log(run(*STEADY, *ATTACKED, *attack, folder=folder)["folder"] / "events.jsonl")
                  if isinstance(e, UpdateFolded)]  # fmt: skip
        attackers = [e.norm for e in folded if e.client == "client_1"]
        others = [e.norm for e in folded if e.client != "client_1"]
        assert min(attackers) > 1.5 * max(others) and math.isfinite(max(attackers))
        return attackers

    assert norms("a", 1) == norms("b", 1) != norms("c", 2)
