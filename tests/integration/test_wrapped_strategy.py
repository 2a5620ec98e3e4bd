"""Runs that a strategy of Flower's own merges."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.runs import StopsAfter, assert_same

from fednano.config.compose import compose_config
from fednano.experiment.experiment import Experiment
from fednano.training.worker import ClientWorker, Task

Run = Callable[..., dict[str, Any]]

CHURN = ("clients=3", "volatility.crash_share=0.5", "rounds=6", "checkpoint_every=2", "eval_every=3")


def flower(name: str, *words: str) -> tuple[str, ...]:
    return ("strategy=flower", f"strategy.wrapped._target_=flwr.serverapp.strategy.{name}", *words)


def test_a_run_by_fedadam_stopped_and_resumed_is_the_same(run: Run) -> None:
    options = (*flower("FedAdam", "+strategy.wrapped.eta=0.01"), *CHURN)
    whole = run(*options, folder="whole")
    assert (whole["strategy"], whole["status"]) == ("flower", "completed")
    assert run(*options, store=StopsAfter(23), folder="stopped")["status"] == "interrupted"
    assert_same(run(*options, folder="stopped", resume=True), whole)


def test_a_run_by_fedavg_is_near_fednanos(run: Run) -> None:
    steady = ("clients=2", "volatility.mean_up_s=1e9", "rounds=2")
    ours, theirs = run(*steady, "strategy=fedavg", folder="ours"), run(*steady, *flower("FedAvg"), folder="theirs")
    assert theirs["val_bpb"] == pytest.approx(ours["val_bpb"], rel=1e-4)
    assert theirs["tape_sha256"] and theirs["tokens"] == ours["tokens"]
    assert run(*steady, *flower("FedAvg"), "round.overlap=2", "checkpoint_every=9", folder="overlap")["status"] == (
        "completed"
    )


def test_what_is_not_a_number_is_refused_before_flower_sees_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    update = ClientWorker._update

    def spoiled(self: ClientWorker, task: Task, *rest: Any) -> Any:
        delta = update(self, task, *rest)
        return delta if task.client != "client_1" else {n: torch.full_like(t, torch.nan) for n, t in delta.items()}

    monkeypatch.setattr(ClientWorker, "_update", spoiled)
    words = flower("FedTrimmedAvg", "+strategy.wrapped.beta=0.1")
    summary = run(*words, "clients=3", "volatility.mean_up_s=1e9", "rounds=1")
    events = [json.loads(line) for line in (summary["folder"] / "events.jsonl").read_text().splitlines()]
    refused = [event for event in events if event["event"] == "UpdateRefused"]
    assert [event["reason"] for event in refused] == ["non_finite"]
    assert summary["status"] == "completed" and summary["val_bpb"] is not None
    assert [len(event["leases"]) for event in events if event["event"] == "RoundMerged"] == [2]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("strategy=flower",), r"strategy\.wrapped\._target_ must be the dotted path of a class, got \?\?\?"),
        (
            flower("FedProx", "+strategy.wrapped.proximal_mu=1"),
            "it tells clients proximal-mu, and fednano's clients take",
        ),
        (flower("FedNothing"), r"strategy\.wrapped\._target_=.*FedNothing cannot be imported"),
        (
            flower("FedAvg", "+strategy.wrapped.beta=1"),
            r"strategy\.wrapped\.beta=1 sets a key that FedAvg does not have",
        ),
        (flower("fedavg.FedAvg"), r"strategy\.wrapped\._target_ must be a class of fednano or of an allowed module"),
        (flower("FedTrimmedAvg", "+strategy.wrapped.beta=x"), r"strategy\.wrapped\.beta must be a number, got x"),
        (("strategy.outer._target_=flwr.serverapp.strategy.FedAvg",), r"strategy\.outer\._target_ must be a class of"),
        (("strategy=flower", "strategy.wrapped._target_=flwr.server.strategy.FedAvg"), "must be a class of fednano or"),
    ],
)
def test_bad_choices(tiny: list[str], words: tuple[str, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        Experiment(compose_config([*tiny, *words]))
    assert "\n" not in str(error.value)
