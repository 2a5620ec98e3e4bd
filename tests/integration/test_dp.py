"""Runs with differential privacy: what they report, and what they refuse."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.runs import StopsAfter, assert_same

from fednano.config.compose import compose_config
from fednano.experiment.experiment import Experiment
from fednano.federation.merging import Merging
from fednano.federation.plan import Round
from fednano.strategy.base import ServerState
from fednano.strategy.dp import epsilon

Run = Callable[..., dict[str, Any]]

PRIVATE = ("strategy=dp_fedavg", "guard=none", "strategy.dp.noise_multiplier=4", "strategy.dp.clip=0.5")
CHURN = ("clients=3", "volatility.crash_share=0.5", "rounds=6", "checkpoint_every=2", "eval_every=3")


def test_a_run_stopped_and_resumed_draws_the_same_noise_and_counts_all_merges(run: Run) -> None:
    whole = run(*PRIVATE, *CHURN, "strategy.quorum=2", folder="whole")
    privacy = whole["strategy_summary"]["privacy"]
    assert 1 < privacy["merges"] < 6  # some rounds are skipped
    assert privacy["epsilon"] == epsilon(4.0, privacy["merges"], 1e-5)
    stopped = run(*PRIVATE, *CHURN, "strategy.quorum=2", store=StopsAfter(23), folder="stopped")
    assert stopped["status"] == "interrupted"
    assert 0 < stopped["strategy_summary"]["privacy"]["merges"] < privacy["merges"]
    resumed = run(*PRIVATE, *CHURN, "strategy.quorum=2", folder="stopped", resume=True)
    assert_same(resumed, whole)
    assert resumed["strategy_summary"] == whole["strategy_summary"]


def test_another_seed_of_the_noise_gives_another_model(run: Run) -> None:
    one, other = run(*PRIVATE, "rounds=1", folder="a"), run(*PRIVATE, "rounds=1", "strategy.dp.seed=7", folder="b")
    assert one["weights_sha256"] != other["weights_sha256"]
    assert one["strategy_summary"] == other["strategy_summary"]


def test_a_run_that_fails_says_what_it_has_spent(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    close, merges = Merging.close, []

    def closing(self: Merging, round_: Round, state: ServerState) -> ServerState:
        if state.weights:  # not while the run is planned
            merges.append(1)
        if len(merges) == 3:
            raise RuntimeError("broken in the third round")
        return close(self, round_, state)

    monkeypatch.setattr(Merging, "close", closing)
    failed = run(*PRIVATE, "volatility.mean_up_s=1e9")
    assert failed["status"] == "failed"
    assert failed["strategy_summary"]["privacy"]["merges"] == 2


def test_the_terminal_and_the_report_tell_it(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(*PRIVATE, "runtime.compute=analytic")["folder"]
    told = f"ε {epsilon(4.0, 3, 1e-5):.3g} at δ 1e-05"
    assert f"{told}, after 3 merges" in capsys.readouterr().out
    assert told in (folder / "report.html").read_text()


def test_a_machine_without_the_accountant_is_found_out_at_the_start(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(ValueError, match=r"strategy\.dp=gaussian needs dp-accounting, which is not installed"):
        run(*PRIVATE)
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["strategy.weighting=tokens"], "strategy.weighting must be uniform with strategy.dp=gaussian"),
        (["guard=norm"], "guard must be none with strategy.dp=gaussian, got NormGuard, whose limit .*; use guard=none"),
        (["strategy/merging=median"], "strategy.merging must be the mean with strategy.dp=gaussian, .*, got Median"),
        (["runtime=centralized"], "strategy.dp must be null with runtime=centralized, which merges nothing"),
        (["strategy.dp.delta=0.9"], "strategy.dp.delta must be <= 1 / clients="),
        (["optim.state=average"], "optim.state must be keep or reset with strategy.dp=gaussian, got average, which"),
        (["round.elastic=true"], "round.alone_merge must be outer with strategy.dp=gaussian and round.elastic=true"),
        (["strategy.dp.clip=0"], "strategy.dp.clip must be > 0, got 0; use the norm of a typical update"),
    ],
)
def test_what_would_break_the_promise_is_refused(tiny: list[str], overrides: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Experiment(compose_config([*tiny, *PRIVATE, *overrides]))


def test_what_does_not_break_it_is_allowed(tiny: list[str]) -> None:
    for overrides in (
        ("guard=norm", "guard.multiple=null", "guard.bound=9"),
        ("round.elastic=true", "round.alone_merge=outer"),
        ("round.overlap=2",),
        ("strategy=diloco", "strategy/dp=gaussian"),
    ):
        Experiment(compose_config([*tiny, *PRIVATE, *overrides]))
