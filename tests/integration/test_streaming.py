"""Streaming: real runs whose merges are of one fragment, on the virtual clock, in worker processes and resumed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.runs import StopsAfter, assert_same

from fednano.config.compose import compose_config
from fednano.core.event_log import read_log
from fednano.core.events import RoundMerged, UpdateFolded, WorkDispatched
from fednano.experiment.experiment import Experiment
from fednano.report.audit import audit

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


def test_the_analytic_mode_predicts_times_and_bytes(run: Run) -> None:
    words = (*THREE, *STREAMED, "network=dsl")
    trained, foreseen = run(*words, folder="a"), run(*words, "runtime.compute=analytic", folder="b")
    assert foreseen["bytes"] == trained["bytes"]
    assert foreseen["virtual_s"] == pytest.approx(trained["virtual_s"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["strategy.stream.fragments=9"], r"strategy\.stream\.fragments must be <= model\.depth=\d, got 9"),
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
