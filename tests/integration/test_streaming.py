"""Streaming: real runs whose merges are of one fragment, on the virtual clock, in worker processes and resumed."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.runs import StopsAfter, assert_same

from fednano.bench.planners import Play
from fednano.config.compose import compose_config
from fednano.core.event_log import read_log
from fednano.core.events import RoundMerged, RoundStarted, UpdateFolded, UpdateRefused, WorkDispatched
from fednano.experiment.experiment import Experiment
from fednano.federation.round_length import Rounds
from fednano.report.audit import audit
from fednano.strategy.outer.sgd import SGD
from fednano.strategy.streaming import Streaming
from fednano.strategy.synchronous import Synchronous
from fednano.volatility.availability import Availability, Window
from fednano.volatility.membership import Membership

Run = Callable[..., dict[str, Any]]

THREE = ("clients=3", "rounds=6", "checkpoint_every=3", "eval_every=6")
STEADY = (*THREE, "volatility.mean_up_s=1e9", "volatility.mean_down_s=1e-3")
STREAMED = ("strategy/stream=fragments", "strategy.stream.alpha=0.5", "strategy.stream.delay=2")
WHOLE = (
    "strategy/stream=fragments",
    "strategy.stream.fragments=1",
    "strategy.stream.delay=0",
    "strategy.stream.alpha=0",
)
FEEDBACK = ("codec=int4", "codec.error_feedback=true")


def events(summary: dict[str, Any]) -> list[Any]:
    return list(read_log(Path(summary["folder"]) / "events.jsonl"))


def test_one_fragment_without_delay_is_diloco(run: Run) -> None:
    plain = run(*STEADY, *FEEDBACK, folder="plain")
    streamed = run(*STEADY, *FEEDBACK, *WHOLE, folder="streamed")
    assert streamed["weights_sha256"] == plain["weights_sha256"]
    assert streamed["bytes"] == plain["bytes"]


def test_only_the_fragment_that_is_due_travels(run: Run) -> None:
    summary = run(*STEADY, *STREAMED)
    seen = events(summary)
    assert [e.fragment for e in seen if isinstance(e, UpdateFolded)] == ([0] * 3 + [1] * 3) * 3
    whole = 4 * summary["parameters"]
    up = [e.bytes for e in seen if isinstance(e, UpdateFolded)]
    assert up[0] + up[3] == whole and 0.2 * whole < up[0] < 0.8 * whole
    down = [e.bytes for e in seen if isinstance(e, WorkDispatched)]
    assert down[:3] == [whole] * 3 and down[3:6] == [up[0]] * 3 and down[6:9] == [up[3]] * 3


def test_the_result_does_not_depend_on_how_much_of_the_delay_is_hidden(run: Run) -> None:
    """Steps of the delay are trained while an update travels, or else once the next task has come."""
    slow = run(*STEADY, *STREAMED, "network.latency_s=1.5", folder="slow")
    quick = run(*STEADY, *STREAMED, "network.latency_s=0", folder="quick")
    assert slow["weights_sha256"] == quick["weights_sha256"]

    def ahead_s(summary: dict[str, Any]) -> float:
        return max(e.ahead[1] - e.ahead[0] for e in events(summary) if isinstance(e, UpdateFolded) and e.ahead)

    assert (ahead_s(slow), ahead_s(quick)) == (pytest.approx(2.0), pytest.approx(1.0))
    undelayed = run(*STEADY, *STREAMED, "strategy.stream.delay=0", "network.latency_s=1.5", folder="undelayed")
    assert slow["virtual_s"] < undelayed["virtual_s"]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_that_is_resumed_with_workers_ends_as_an_uninterrupted_one(run: Run, workers: int) -> None:
    words = (*THREE, *STREAMED, *FEEDBACK)
    whole, parallel = run(*words, folder="whole"), f"hardware.workers={workers}"
    assert run(*words, parallel, folder="halves", store=StopsAfter(30))["status"] == "interrupted"
    assert_same(run(*words, parallel, folder="halves", resume=True), whole)


@pytest.mark.parametrize("seed", range(4))
def test_clients_that_come_and_go_begin_anew_and_lose_no_row(run: Run, seed: int) -> None:
    summary = run(*THREE, *STREAMED, f"seed={seed}", "volatility.crash_share=0.5", "rounds=9", "checkpoint_every=9")
    seen = events(summary)
    assert audit(seen).violations == []
    whole = 4 * summary["parameters"]
    begun = [e for e in seen if isinstance(e, WorkDispatched) and e.bytes == whole]
    assert len({e.client for e in begun}) == len({e.client for e in seen if isinstance(e, WorkDispatched)})
    assert len(begun) < sum(isinstance(e, WorkDispatched) for e in seen)
    assert any(isinstance(e, RoundMerged) for e in seen)


DECOUPLED = ("strategy=decoupled_diloco", "hardware.tokens_per_s=[64,32,16]", "rounds=12")


@pytest.mark.parametrize("seed", range(3))
def test_learners_that_never_wait_lose_no_row_and_are_resumed(run: Run, seed: int) -> None:
    words = (*THREE, *DECOUPLED, f"seed={seed}", "volatility.crash_share=0.5", "eval_every=12", "checkpoint_every=6")
    whole = run(*words, folder="whole")
    assert run(*words, folder="halves", store=StopsAfter(60))["status"] == "interrupted"
    assert_same(run(*words, folder="halves", resume=True), whole)
    seen = events(whole)
    assert not [e for e in seen if isinstance(e, UpdateRefused) and e.reason == "error"]
    assert seen[0].format == 2 and not any(e.clients for e in seen if isinstance(e, RoundStarted))


def test_all_learners_at_once_are_the_synchronous_rounds(run: Run) -> None:
    """A fragment is merged once all have submitted it, so nobody is ahead of another."""
    words = (*STEADY, "strategy/stream=fragments", "strategy.stream.delay=0", "strategy/merging=radial")
    weighting = "strategy.weighting=tokens_squared_per_step"
    apart = run(*words, weighting, *(f"strategy.{key}" for key in ("quorum=3", "grace=0", "late=next", "waits=false")))
    assert apart["weights_sha256"] == run(*words, weighting, folder="together")["weights_sha256"]


@pytest.mark.parametrize("examples", [60, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_schedule_loses_or_doubles_a_row(examples: int) -> None:
    settings(max_examples=examples, deadline=None)(given(data=st.data())(play))()


def play(data: st.DataObject) -> None:
    """Hand-made clients on the virtual clock, which train nothing: 10 steps of a second or more between submissions."""
    clients, H = data.draw(st.integers(1, 5)), 10

    def windows() -> list[Window]:
        ends = sorted(data.draw(st.lists(st.integers(1, 120), min_size=0, max_size=8, unique=True)))
        exits = [data.draw(st.sampled_from(["drain", "crash"])) for _ in ends[1::2]]
        spans = [Window(*span, exit_) for span, exit_ in zip(zip(ends[::2], ends[1::2], strict=False), exits)]  # noqa: B905
        return [*spans, Window(130, math.inf, "drain")]

    streaming = Streaming(
        fragments=data.draw(st.integers(1, 3)),
        delay=data.draw(st.sampled_from([0, 2, None])),
        gamma=data.draw(st.sampled_from([None, 0.5])),
    )
    late = data.draw(st.sampled_from(["refuse", "next"]))
    strategy = Synchronous(
        name="s",
        outer=SGD(1.0),
        local_steps=H,
        quorum=data.draw(st.integers(1, clients)),
        grace=data.draw(st.sampled_from([0.0, 3.0, 30.0])),
        late=late,
        waits=late == "refuse" or data.draw(st.booleans()),
        max_staleness=data.draw(st.sampled_from([None, 1, 10])) if late == "next" else None,
        stream=streaming,
    )
    playing = Play(
        membership=Membership({f"c{i}": Availability(iter(windows())) for i in range(clients)}),
        rounds=10,
        local_steps=H,
        step_s=data.draw(st.sampled_from([(1.0,), (1.0, 4.0), (1.0, 1.5, 2.5)])),
        transfer_s=data.draw(st.sampled_from([0.0, 0.25, 3.0])),
        length=Rounds(overlap=streaming.overlap(H)),
        strategy=strategy,
    )
    federation = playing.run()
    checked = audit(playing.events)
    assert checked.violations == []
    assert federation.ledger.counts()["done"] == checked.rows_done
    assert federation.ledger.counts()["leased"] == 0


def test_the_analytic_mode_predicts_times_and_bytes(run: Run) -> None:
    words = (*THREE, *STREAMED, "network=dsl")
    trained, foreseen = run(*words, folder="a"), run(*words, "runtime.compute=analytic", folder="b")
    assert foreseen["bytes"] == trained["bytes"]
    assert foreseen["virtual_s"] == pytest.approx(trained["virtual_s"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["strategy.stream.fragments=9"], r"strategy\.stream\.fragments must be <= model\.depth=\d, got 9"),
        (
            ["strategy.stream.fragments=1", "strategy.stream.delay=4", "strategy.stream.alpha=0"],
            r"alpha must be null with fragm",
        ),
        (["strategy.stream.delay=5"], r"strategy\.stream\.delay must be <= strategy\.local_steps=4, got 5"),
        (["round.overlap=2"], r"round\.overlap must be 0 with strategy\.stream, got 2; .* use round\.overlap=0"),
        (["round.elastic=true"], r"round\.elastic must be false with strategy\.stream, got true"),
        (["round=seconds", "round.seconds=30"], r"round\.until must be steps with strategy\.stream, got seconds"),
        (["optim.state=average"], r"optim\.state must be keep with strategy\.stream, got average"),
        (["optim.state=reset"], r"optim\.state must be keep with strategy\.stream, got reset"),
        (["strategy/dp=gaussian", "guard=none"], r"strategy\.dp must be null with strategy\.stream, got Gaussian"),
        (
            ["strategy/client=proximal", "strategy.stream.delay=1"],
            r"strategy\.stream\.delay must be 0 with strategy\.client=Proximal, got 1",
        ),
    ],
)
def test_what_does_not_go_with_fragments_is_refused(tiny: list[str], words: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Experiment(compose_config([*tiny, "strategy/stream=fragments", "strategy.stream.delay=0", *words]))
