"""Every strategy of conf/strategy in whole rounds: replies that are missing, bad or repeated, churn, and resuming."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from support.hostile import hostile
from support.runs import assert_same
from support.toy_federation import H, Outcome, federate

from fednano.config.build import build_groups
from fednano.config.compose import compose_config
from fednano.config.places import conf_dir
from fednano.coordination.memory import MemoryStore
from fednano.core.events import LeaseReleased, RoundMerged, RoundSkipped, UpdateFolded, UpdateRefused
from fednano.core.tensors import State
from fednano.experiment.experiment import Experiment
from fednano.strategy.synchronous import Synchronous
from fednano.training import checkpoint
from fednano.training.worker import Result, Task
from fednano.volatility.availability import Window

Run = Callable[..., dict[str, Any]]
Spoil = Callable[[Task, Result, State], tuple[Result, State]]

CLIENTS = 6
ALWAYS = Window(0, math.inf, "drain")
APART = ("dp_fedavg", "flower")  # noise, and strategies of Flower's, have tests of their own
WITHOUT_ROUNDS = (
    "async_diloco",
    "decoupled_diloco",
    "fedbuff",
)  # which merge what there is, and more often than all clients answer
CHOICES = sorted({path.stem for path in (conf_dir() / "strategy").glob("[!_]*.yaml")} - {*APART})
COMPOSED = ("diloco strategy/merging=radial strategy.weighting=tokens_squared_per_step",
            "fedavg strategy/outer=adam strategy/merging=median strategy/schedule=cosine")  # fmt: skip
EVERY = pytest.mark.parametrize("words", [*CHOICES, *COMPOSED])


@cache
def strategy(words: str) -> Synchronous:
    """Without fragments: these need clients that keep weights, as in tests/integration/test_streaming.py."""
    overrides = f"strategy={words} strategy.local_steps={H}".split()
    built = build_groups(compose_config(overrides), ("strategy",))["strategy"]
    assert isinstance(built, Synchronous)
    adaptive = built.stream is not None and built.stream.gamma is not None
    return replace(built, stream=None, grace=0.0 if adaptive else built.grace)


def weight(outcome: Outcome) -> float:
    return outcome.federation.state.weights["w"].item()


def of_one(client: str, spoil: Spoil) -> Spoil:
    return lambda task, result, delta: spoil(task, result, delta) if task.client == client else (result, delta)


@EVERY
def test_without_a_reply_the_round_is_skipped(words: str) -> None:
    gone = [Window(0, 5.3, "crash"), Window(30, math.inf, "drain")]
    outcome = federate([gone] * CLIENTS, rounds=2, strategy=strategy(words))
    assert [e.updates for e in outcome.of(RoundSkipped)] == [0]
    assert [len(e.leases) for e in outcome.of(RoundMerged)] == [CLIENTS]
    assert weight(outcome) < 0


@EVERY
def test_one_reply_is_merged_or_the_round_is_skipped(words: str) -> None:
    """A merging that needs more updates than arrive frees the rows of those that did."""
    gone = [Window(0, 5.3, "crash"), Window(30, math.inf, "drain")]
    outcome = federate([[ALWAYS], *[gone] * (CLIENTS - 1)], strategy=strategy(words))
    if (quorum := strategy(words).quorum) == 1 or words in WITHOUT_ROUNDS:
        assert [len(e.leases) for e in outcome.of(RoundMerged)] == [1]
        assert weight(outcome) < 0
    else:
        assert [e.reason for e in outcome.of(RoundSkipped)] == [f"1 update is below the quorum of {quorum}"]
        assert outcome.of(LeaseReleased)[-1].reason == "skipped"
        assert weight(outcome) == 0


@EVERY
def test_all_replies_at_once_are_merged(words: str) -> None:
    outcome = federate([[ALWAYS]] * CLIENTS, rounds=3, strategy=strategy(words))
    merged = [len(e.leases) for e in outcome.of(RoundMerged)]
    if words in WITHOUT_ROUNDS:
        quorum = strategy(words).quorum
        assert merged == [quorum, quorum, CLIENTS]  # those merged have begun anew when the last round waits for all
    else:
        assert len({e.t for e in outcome.of(UpdateFolded)}) == 3
        assert merged == [CLIENTS] * 3
    assert weight(outcome) < 0


@EVERY
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda task, result, delta: (structs.replace(result, version=9), delta), "stale"),
        (lambda task, result, delta: (result, {"w": torch.tensor([math.nan])}), "non_finite"),
        (lambda task, result, delta: (result, {"w": torch.zeros(2)}), "malformed"),
    ],
)
def test_bad_replies_leave_no_trace(words: str, spoil: Spoil, reason: str) -> None:
    outcome = federate([[ALWAYS]] * CLIENTS, strategy=strategy(words), spoil=of_one("c1", spoil))
    assert [(e.client, e.reason) for e in outcome.of(UpdateRefused)] == [("c1", reason)]
    without = federate([[ALWAYS]] * (CLIENTS - 1), strategy=strategy(words))
    assert weight(outcome) == weight(without) < 0


@EVERY
def test_a_reply_that_comes_twice_counts_once(words: str) -> None:
    outcome = federate([[ALWAYS]] * CLIENTS, strategy=strategy(words), grid=hostile(["twice", "twice"], 0.0))
    assert [e.reason for e in outcome.of(UpdateRefused)] == ["duplicate"] * 2
    assert weight(outcome) == weight(federate([[ALWAYS]] * CLIENTS, strategy=strategy(words)))


@pytest.mark.parametrize("words", ["median", "trimmed_mean", "krum", "fedavg"])
def test_only_robust_strategies_withstand_a_broken_client(words: str) -> None:
    broken = of_one("c1", lambda task, result, delta: (result, {"w": torch.tensor([1e30])}))
    outcome = federate([[ALWAYS]] * CLIENTS, rounds=2, strategy=strategy(words), spoil=broken)
    assert (weight(outcome) == -2 * H) == (words != "fedavg")


@EVERY
@settings(max_examples=3, deadline=None)
@given(data=st.data())
def test_churn_loses_and_doubles_no_row(words: str, data: st.DataObject) -> None:
    """`federate` audits the event log and counts the rows of the ledger."""

    def windows() -> list[Window]:
        ends = sorted(data.draw(st.lists(st.integers(1, 90), min_size=0, max_size=6, unique=True)))
        exits = [data.draw(st.sampled_from(["drain", "crash"])) for _ in ends[1::2]]
        spans = [Window(*span, exit_) for span, exit_ in zip(zip(ends[::2], ends[1::2], strict=False), exits)]  # noqa: B905
        return [*spans, Window(100, math.inf, "drain")]

    outcome = federate([windows() for _ in range(CLIENTS)], rounds=4, strategy=strategy(words), rows=230)
    least = 1 if words in WITHOUT_ROUNDS else strategy(words).quorum
    assert all(len(e.leases) >= least for e in outcome.of(RoundMerged))
    assert math.isfinite(weight(outcome))


# Whole runs


STEADY = ("clients=3", "volatility.mean_up_s=100000", "rounds=3", "checkpoint_every=1", "eval_every=3",
          "strategy.local_steps=3")  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        "fedadam strategy/schedule=cosine",
        "median strategy/outer=momentum",
        "fedbuff rounds=7 checkpoint_every=3 hardware.tokens_per_s=[64,32,16]",
        pytest.param("async_diloco rounds=8 checkpoint_every=3 hardware.tokens_per_s=[64,16]", marks=pytest.mark.slow),
        pytest.param(
            "diloco strategy.quorum=2 strategy.grace=1.0 strategy.late=next rounds=7 checkpoint_every=3 "
            "hardware.tokens_per_s=[64,16]",
            marks=pytest.mark.slow,
        ),
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in (
                "fedavgm",
                "fedyogi strategy/schedule=warmup",
                "muloco",
                "trimmed_mean clients=4",
                "krum clients=5",
                *COMPOSED,
            )
        ),
    ],
)
def test_a_run_learns_and_ends_the_same_when_it_is_stopped_and_resumed(
    run: Run, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*STEADY, *f"strategy={words}".split()]
    whole = run(*options, folder="whole")
    assert whole["strategy"] == words.split(maxsplit=1)[0]
    assert whole["val_bpb"] < whole["val_bpb_initial"]
    stops = 5 if "rounds=" in words else 2
    assert run(*options, store=StopsInRound(stops), folder="stopped")["status"] == "interrupted"
    shutil.copytree(tmp_path / "stopped", tmp_path / "forgetful")
    assert_same(run(*options, folder="stopped", resume=True), whole)

    saved = tmp_path / "forgetful" / "checkpoints" / ("round_000003" if "rounds=" in words else "round_000002")
    outer = checkpoint.load_tensors(saved / checkpoint.OUTER)
    load = checkpoint.load_tensors
    monkeypatch.setattr(checkpoint, "load_tensors", lambda path: {} if path.name == checkpoint.OUTER else load(path))
    forgetful = run(*options, folder="forgetful", resume=True)
    assert (forgetful["weights_sha256"] == whole["weights_sha256"]) == (not outer)


class StopsInRound(MemoryStore):
    """Asks for a stop at the first check after the leases of a round are granted."""

    def __init__(self, round_: int) -> None:
        super().__init__()
        self._round = round_

    def check_stop(self) -> None:
        if any(lease.round == self._round for lease in self.held()):
            self.request_stop()
        super().check_stop()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("krum", r"clients must be >= 5 with strategy/merging=krum, got 4; add clients"),
        ("krum clients=6 strategy.merging.f=2", r"clients must be >= 7 with strategy\.merging\.f=2, got 6"),
        ("krum clients=6 strategy.merging.m=9", r"clients must be >= 18 with strategy\.merging\.m=9, got 6"),
        ("median clients=2", r"clients must be >= 3 with strategy/merging=median, got 2"),
        ("trimmed_mean strategy.merging.share=0.2", r"clients must be >= 5 with strategy\.merging\.share=0\.2, got 4"),
        ("median strategy.weighting=tokens", r"strategy\.weighting must be uniform with strategy\.merging=Median, wh"),
        ("median round.elastic=true", r"round\.elastic must be false with strategy/merging=median, got true"),
        ("fedavg strategy.quorum=2 round.elastic=true", r"strategy\.quorum must be 1 with round\.elastic=true, got 2"),
        (
            "median clients=100000 strategy.quorum=100000 optim.state=reset model=d20 model.sequence_len=16",
            r"strategy\.quorum must fit into memory, got 100000, with which the run needs about",
        ),
        (
            "median strategy/client=byzantine strategy.client.clients=[client_3,client_4]",
            r"strategy\.client\.clients must name clients of the run, got client_4; they are called client_0 to c",
        ),
        ("muloco optim=adamw", r"optim must step with Muon under strategy=muloco, got AdamW"),
    ],
)
def test_what_does_not_go_together_is_refused(words: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Experiment(compose_config(f"strategy={words}".split()))
