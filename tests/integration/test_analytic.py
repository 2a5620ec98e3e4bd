"""`runtime.compute=analytic`: the protocol of the torch runtime, event by event, without its tensors."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fednano.config.compose import compose_config
from fednano.coordination.memory import MemoryStore
from fednano.core.clock import VirtualClock
from fednano.core.event_log import read_log
from fednano.core.progress import Silent
from fednano.data.ledger import Grant, Span
from fednano.data.loader import LeaseLoader
from fednano.experiment.experiment import Experiment
from fednano.report.audit import audit
from fednano.runtime.run_folder import run_in_folder
from fednano.training.analytic import AnalyticTrainer, position
from fednano.training.local import StepPlan
from fednano.volatility.availability import Availability, Window
from fednano.volatility.membership import Membership
from fednano.volatility.presence import ClientCrashedError, Presence
from fednano.volatility.speed import Speed

UNMEASURED = {"norm", "train_loss", "val_loss", "val_bpb", "lr_scale"}
# What the run would merge is not played through in advance; where a lease ends up depends on how long its rows are.
ESTIMATED = {"tokens_planned", "spans", "row", "token", "left"}

Run = Callable[..., dict[str, Any]]


def event_log(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [{k: v for k, v in record.items() if not k.startswith("wall_")} for record in records]


def without(record: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in names}


@pytest.mark.parametrize(
    "overrides",
    [
        ["rounds=6", "clients=6"],
        ["rounds=6", "clients=5", "network=flaky", "strategy.slack=1.0", "hardware.tokens_per_s=[32,20,50]"],
        ["rounds=6", "clients=4", "volatility=spot", "volatility.notice_s=2"],
        ["clients=3", "strategy.quorum=3", "partition=source", "optim.state=average"],
        ["rounds=8", "clients=4", "round.overlap=3", "network.latency_s=1.25", "volatility.crash_share=0.5"],
        ["rounds=8", "round.overlap=4", "network=flaky", "volatility=spot", "volatility.notice_s=2", "planner=aware"],
    ],
    ids=["markov", "late", "notices", "averaged", "overlapped", "overlapped and late"],
)
def test_the_event_log_is_that_of_the_torch_run(run: Run, overrides: list[str]) -> None:
    torch = run(*overrides, folder="torch")
    analytic = run(*overrides, "runtime.compute=analytic", folder="analytic")
    trained, played = event_log(torch["folder"]), event_log(analytic["folder"])
    assert [record["event"] for record in played] == [record["event"] for record in trained]
    assert [without(p, UNMEASURED | ESTIMATED) for p in played] == [without(t, UNMEASURED | ESTIMATED) for t in trained]
    assert {p[name] for p in played for name in UNMEASURED & set(p)} == {None}
    for key in ("rounds", "inner_steps", "tokens", "virtual_s", "bytes", "goodput", "parameters"):
        assert analytic[key] == torch[key], key
    assert audit(read_log(analytic["folder"] / "events.jsonl")).violations == []
    assert (analytic["rows"]["lost"], analytic["rows"]["doubled"], analytic["rows"]["leased"]) == (0, 0, 0)


def test_nothing_is_said_of_a_model(run: Run) -> None:
    summary = run("runtime.compute=analytic")
    for key in ("val_bpb", "val_bpb_initial", "train_loss", "weights_sha256", "tokens_per_s"):
        assert summary[key] is None
    assert summary["train_s"] == 0.0
    assert not (summary["folder"] / "model").exists()
    assert "not measured" in (summary["folder"] / "report.html").read_text(encoding="utf-8")


class StopsLater(MemoryStore):
    """Asks the run to stop at the n-th check."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._looks = looks

    def check_stop(self) -> None:
        self._looks -= 1
        if self._looks < 0:
            self.request_stop()
        super().check_stop()


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(run: Run) -> None:
    overrides = ("runtime.compute=analytic", "rounds=8", "checkpoint_every=3")
    whole = run(*overrides, folder="whole")
    stopped = run(*overrides, store=StopsLater(15), folder="stopped")
    assert stopped["status"] == "interrupted"
    assert 0 < stopped["rounds"] < 8
    resumed = run(*overrides, folder="stopped", resume=True)
    assert resumed["tape_sha256"] == whole["tape_sha256"]
    assert resumed["rows"] == whole["rows"]


def test_another_compute_is_refused(run: Run) -> None:
    with pytest.raises(ValueError, match=r"runtime\.compute must be torch or analytic, got quantum"):
        run("runtime.compute=quantum")


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(0, (2, 3)), (6, (2, 9)), (7, (3, 0)), (17, (6, 0)), (36, (7, 9)), (37, (8, 0)), (99, (8, 0))],
)
def test_cursors_assume_rows_of_equal_length(tokens: int, expected: tuple[int, int]) -> None:
    """Of rows 2, 3, 6 and 7 with ten tokens each, three are trained already."""
    assert position((Span(2, 3, 4), Span(6, 0, 8)), tokens, 10) == expected


@given(st.data())
def test_steps_at_once_are_the_steps_one_by_one(data: st.DataObject) -> None:
    """Windows with and without notice, crashes, and changing speeds."""
    step_s = data.draw(st.floats(0.05, 3))
    window = Window(
        0.0,
        data.draw(st.one_of(st.floats(0.1, 60), st.integers(1, 60).map(lambda n: n * step_s))),
        data.draw(st.sampled_from(["drain", "crash"])),
        data.draw(st.sampled_from([0.0, 2.0, math.inf])),
    )
    pieces = [(k * 4.0 + 4.0, data.draw(st.floats(0.3, 2))) for k in range(8)] + [(math.inf, 1.0)]
    submit_s = data.draw(st.floats(0, 3))
    begins = data.draw(st.floats(0, 0.09))
    assume(begins < window.stop)  # or it is not there to begin

    def played(at_once: bool) -> tuple[float, tuple[int, bool] | None]:
        membership = Membership({"a": Availability(iter([window]))}, {"a": Speed(iter(pieces))})
        clock = VirtualClock(begins)
        presence = Presence(membership, "a", clock, submit_s)
        presence.arrive()
        sure_until = lambda client, t: membership.steady_until(client, t) - submit_s if at_once else t  # noqa: E731
        trainer = AnalyticTrainer(8, 5.0, sure_until)
        plan = StepPlan(
            steps=20,
            step_s=step_s,
            tokens_before=0,
            tokens_per_step=8,
            horizon=100,
            speed=lambda t: membership.speed("a", t),
        )
        loader = LeaseLoader(None, range(99), Grant(0, (Span(0, 0, 50),)), 1, 8)  # type: ignore[arg-type]
        try:
            done, _ = trainer.run("a", {}, loader, plan, clock, presence.may_step, lambda steps, loss: None)
        except ClientCrashedError:
            return clock.now(), None
        return clock.now(), (done.steps, done.drained)

    assert played(at_once=True) == played(at_once=False)


def test_the_scale_experiment_runs(text_folder: Path, tmp_path: Path) -> None:
    cfg = compose_config(
        [
            *("experiment=scale", "data=text", f"data.path={text_folder}", f"data.root={tmp_path / 'corpora'}"),
            *("tokenizer.vocab_size=300", "eval_tokens=512", "clients=90", "rounds=4"),
        ]
    )
    experiment = Experiment(cfg)
    parts = experiment.parts(experiment.prepare(Silent()), MemoryStore())
    folder = tmp_path / "run"
    folder.mkdir()
    outcome = run_in_folder(folder, "scale", experiment.runtime, parts, experiment.groups.logger, {"name": "scale"})
    assert outcome.status == "completed"
    assert outcome.virtual_s is not None and outcome.virtual_s > 4 * 3600
    checked = audit(read_log(folder / "events.jsonl"))
    assert checked.violations == []
    assert "26 more clients are not drawn" in (folder / "report.html").read_text(encoding="utf-8")
