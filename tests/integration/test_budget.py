"""Budgets of tokens and hours, as a user sets them: when runs end, and which settings are refused."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from support.damage import as_of_an_earlier_version
from support.runs import StopsAfter, assert_same

from fednano.config.compose import compose_config
from fednano.core.clock import wall
from fednano.core.event_log import read_log
from fednano.core.events import CheckpointSaved, Evaluated, Event, LeaseReleased, RoundMerged, RunStarted
from fednano.experiment.experiment import Experiment
from fednano.report.audit import audit
from fednano.run import main
from fednano.training.budget import Budget
from fednano.training.recorder import Recorder

Run = Callable[..., dict[str, Any]]

ROUND = 4 * 4 * 32  # tokens of a round of four clients that stay: 4 steps of 2 rows of 16
STEADY = ("volatility.mean_up_s=1e9", "volatility.mean_down_s=1e-3", "clients=4")
NOTHING = ("rounds=null", "eval_every=100", "checkpoint_every=100")  # but a budget ends the run


def events_of(summary: dict[str, Any]) -> list[Event]:
    return list(read_log(summary["folder"] / "events.jsonl"))


def assert_whole(summary: dict[str, Any]) -> None:
    """Assert that the last round was evaluated and saved, and that no row is still leased."""
    events = events_of(summary)
    rounds = summary["rounds"]
    assert [e.round for e in events if isinstance(e, Evaluated)] == [0, rounds]
    assert [e.round for e in events if isinstance(e, CheckpointSaved)] == [rounds]
    checked = audit(events)
    assert checked.violations == []
    assert not checked.open_leases
    assert (summary["rows"]["leased"], summary["rows"]["lost"], summary["rows"]["doubled"]) == (0, 0, 0)


@pytest.mark.parametrize(
    "options", [(), ("runtime.compute=analytic",), pytest.param(("hardware.workers=2",), marks=pytest.mark.slow)]
)
def test_tokens_end_a_run_after_the_round_that_reaches_them(run: Run, options: tuple[str, ...]) -> None:
    summary = run(*STEADY, *NOTHING, *options, f"budget.tokens={2 * ROUND + 1}")
    assert (summary["status"], summary["ended_by"]) == ("completed", "budget.tokens")
    assert (summary["rounds"], summary["tokens"]) == (3, 3 * ROUND)
    assert_whole(summary)
    started = events_of(summary)[0]
    assert isinstance(started, RunStarted)
    assert (started.rounds, started.tokens_planned) == (0, 2 * ROUND + 1)


def test_learning_rates_end_with_the_tokens_and_nothing_is_played_for_that(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fednano.runtime.play_through.play", lambda *_: pytest.fail("was played through"))
    summary = run(*STEADY, *NOTHING, f"budget.tokens={4 * ROUND}", "optim.schedule.warmdown=1.0")
    assert [e.lr_scale for e in events_of(summary) if isinstance(e, RoundMerged)] == [1.0, 0.75, 0.5, 0.25]


def test_a_budget_that_ends_with_the_rounds_gives_the_same_weights_as_they(run: Run) -> None:
    rounds = run(*STEADY, "rounds=3", folder="rounds")
    tokens = run(*STEADY, "rounds=null", f"budget.tokens={3 * ROUND}", folder="tokens")
    assert (rounds["ended_by"], tokens["ended_by"]) == ("rounds", "budget.tokens")
    assert rounds["weights_sha256"] == tokens["weights_sha256"]


@pytest.mark.parametrize("compute", ["torch", "analytic"])
def test_virtual_hours_end_a_run(run: Run, compute: str) -> None:
    hours = 10.0 / 3600  # a round takes 4.6 s
    options = (*STEADY, f"runtime.compute={compute}", f"budget.virtual_hours={hours}")
    summary = run(*NOTHING, *options)
    assert (summary["ended_by"], summary["rounds"]) == ("budget.virtual_hours", 3)
    ends = [e.t for e in events_of(summary) if isinstance(e, RoundMerged)]
    assert ends[1] < 10.0 <= ends[2]
    assert_whole(summary)
    started = events_of(summary)[0]
    assert isinstance(started, RunStarted)
    assert started.tokens_planned == summary["tokens"] == 3 * ROUND


def test_whichever_comes_first(run: Run) -> None:
    budget = ("budget.tokens=100000", "budget.virtual_hours=5", "budget.wall_hours=5")
    summary = run(*STEADY, "rounds=2", *budget)
    assert (summary["ended_by"], summary["rounds"]) == ("rounds", 2)
    again = run(*STEADY, "rounds=50", f"budget.tokens={ROUND}", *budget[1:], folder="again")
    assert (again["ended_by"], again["rounds"]) == ("budget.tokens", 1)


@pytest.fixture
def hours_pass(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Makes wall-clock hours pass during runs."""
    passed = [0.0]
    monkeypatch.setattr("fednano.runtime.session.wall", lambda: wall() + passed[0])

    def go(hours: float) -> None:
        passed[0] += 3600 * hours

    yield go


@pytest.fixture
def slow_rounds(hours_pass: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every round takes an hour of wall-clock time."""
    ended = Recorder.ended

    def after_an_hour(self: Recorder, rounds: int, budget: Budget) -> bool:
        if self.wall_s():  # else the run is only played through in advance
            hours_pass(1.0)
        return ended(self, rounds, budget)

    monkeypatch.setattr(Recorder, "ended", after_an_hour)


@pytest.mark.parametrize("runtime", ["virtual", "centralized"])
def test_wall_hours_end_a_run(run: Run, slow_rounds: None, runtime: str) -> None:
    summary = run(*STEADY, f"runtime={runtime}", "rounds=50", *NOTHING[1:], "budget.wall_hours=2.5")
    assert (summary["ended_by"], summary["rounds"]) == ("budget.wall_hours", 3)
    assert_whole(summary)


def test_wall_hours_before_a_resume_count(run: Run, slow_rounds: None, hours_pass: Callable[[float], None]) -> None:
    options = (*STEADY, "rounds=50", "eval_every=100", "checkpoint_every=1", "budget.wall_hours=3.5")
    checks = 3 * 16 + 5  # in the third round: the first evaluation and both rounds before made 16 each
    stopped = run(*options, store=StopsAfter(checks))
    assert (stopped["status"], stopped["ended_by"], stopped["rounds"]) == ("interrupted", None, 2)
    hours_pass(-2.0)  # the clock of a new process begins anew
    resumed = run(*options, resume=True)
    assert (resumed["ended_by"], resumed["rounds"]) == ("budget.wall_hours", 4)


def test_the_centralized_baseline_follows_the_same_tokens(run: Run) -> None:
    central = ("runtime=centralized", *STEADY, *NOTHING)
    summary = run(*central, f"budget.tokens={2 * ROUND + 1}")
    assert (summary["ended_by"], summary["rounds"]) == ("budget.tokens", 3)
    assert summary["tokens"] == 2 * ROUND + ROUND // 4  # whole steps of all clients
    assert_whole(summary)
    short = run(*central, f"budget.tokens={9 * ROUND}", "rounds=2", folder="short")
    assert (short["ended_by"], short["tokens"]) == ("rounds", 2 * ROUND)


def test_the_centralized_baseline_trains_what_is_merged_within_the_virtual_hours(run: Run) -> None:
    options = (*STEADY, *NOTHING, f"budget.virtual_hours={10.0 / 3600}")
    federated, central = run(*options), run(*options, "runtime=centralized", folder="central")
    assert central["tokens"] == federated["tokens"] == 3 * ROUND
    assert central["ended_by"] == federated["ended_by"] == "budget.virtual_hours"
    assert central["virtual_s"] > federated["virtual_s"]


@pytest.mark.parametrize(
    ("budget", "stops"),
    [
        (("budget.tokens=2200",), (31,)),
        pytest.param(("budget.tokens=2200",), (10, 52), marks=pytest.mark.slow),
        pytest.param(("budget.virtual_hours=0.011",), (10, 31, 52), marks=pytest.mark.slow),
        pytest.param(("runtime=centralized", "budget.tokens=2200"), (5, 14, 22), marks=pytest.mark.slow),
    ],
)
def test_a_run_with_a_budget_that_is_stopped_anywhere_ends_the_same(
    run: Run, budget: tuple[str, ...], stops: tuple[int, ...]
) -> None:
    options = (
        "clients=3",
        "volatility.crash_share=0.5",
        "rounds=null",
        "checkpoint_every=3",
        "eval_tokens=64",
        *budget,
    )
    whole = run(*options)
    assert whole["rounds"] >= 4
    for checks in stops:
        folder = f"after_{checks}"
        assert run(*options, store=StopsAfter(checks), folder=folder)["status"] == "interrupted"
        resumed = run(*options, folder=folder, resume=True)
        assert_same(resumed, whole)
        assert resumed["ended_by"] == whole["ended_by"] == budget[-1].partition("=")[0]


def test_a_run_killed_before_its_summary_does_nothing_more(run: Run) -> None:
    options = (*STEADY, *NOTHING, f"budget.tokens={2 * ROUND}")
    whole = run(*options)
    weights = whole["weights_sha256"]
    (whole["folder"] / "summary.json").unlink()
    resumed = run(*options, resume=True)
    assert (resumed["weights_sha256"], resumed["rounds"], resumed["ended_by"]) == (weights, 2, "budget.tokens")


def test_what_clients_had_gone_ahead_with_is_free_when_a_budget_ends_the_run(run: Run) -> None:
    slow_links = ("network.latency_s=1.25", "round.overlap=3")
    summary = run(*STEADY, *NOTHING, *slow_links, f"budget.tokens={2 * ROUND}")
    assert summary["rounds"] == 2
    assert {e.reason for e in events_of(summary) if isinstance(e, LeaseReleased)} == {"end"}
    assert_whole(summary)


# Configurations


def test_rounds_are_derived_unless_a_budget_is_foreseeable(tiny: list[str]) -> None:
    def rounds(*overrides: str) -> int | None:
        return Experiment(compose_config([*tiny, "rounds=null", *overrides])).settings.rounds

    derived = rounds()
    assert derived
    assert rounds("budget.wall_hours=3") == derived
    assert rounds("budget.tokens=100000") is None
    assert rounds("budget.virtual_hours=3", "round=seconds", "round.seconds=9") is None
    with pytest.raises(ValueError, match=r"rounds must be set with .*, got null; set rounds, budget\.tokens or"):
        rounds("budget.wall_hours=3", "round=seconds", "round.seconds=9")


def test_a_batch_is_derived_beside_a_budget(tiny: list[str]) -> None:
    cfg = compose_config([*tiny, "batch_size=null", "rounds=null", "budget.tokens=10000000"])
    settings = Experiment(cfg).settings
    assert settings.rounds is None
    assert settings.batch_size > 2


def test_a_resolved_configuration_says_the_same_again(tiny: list[str]) -> None:
    experiment = Experiment(cfg := compose_config([*tiny, "rounds=null", "budget.tokens=5000"]))
    again = OmegaConf.create(OmegaConf.to_yaml(OmegaConf.create(experiment.resolved(cfg))))
    assert Experiment(again).settings == experiment.settings


def test_a_configuration_older_than_budgets_has_none(tiny: list[str]) -> None:
    cfg = compose_config(tiny)
    OmegaConf.set_struct(cfg, False)
    del cfg["budget"]
    experiment = Experiment(cfg)
    assert experiment.settings.budget == Budget()
    assert experiment.settings == Experiment(compose_config(tiny)).settings


def test_a_folder_older_than_budgets_is_resumed(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ran(*words: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["run", *words])
        assert main() == 0
        found: dict[str, Any] = json.loads((tmp_path / "run" / "summary.json").read_text())
        return found

    monkeypatch.chdir(tmp_path)
    whole = ran(*tiny, "checkpoint_every=1", "hydra.run.dir=run")
    cfg = OmegaConf.load(tmp_path / "run" / "config.yaml")
    del cfg["budget"]
    OmegaConf.save(cfg, tmp_path / "run" / "config.yaml")
    (tmp_path / "run" / "summary.json").unlink()
    for folder in (tmp_path / "run" / "checkpoints").iterdir():
        as_of_an_earlier_version(folder)
        state = json.loads((folder / "state.json").read_text())
        del state["progress"]["ended_by"]
        (folder / "state.json").write_text(json.dumps(state))
    resumed = ran("resume=run")
    assert (resumed["weights_sha256"], resumed["ended_by"]) == (whole["weights_sha256"], "rounds")


# Refusals

TRACE = ("volatility=trace", "volatility.speedup=1e4", "volatility.on_end=error", "rounds=null")
ENERGY = ("volatility=none", "energy=trace", "energy.speedup=1e5", "energy.carbon.on_end=error", "rounds=null")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["budget=5"], "budget must hold keys, got 5; set budget.tokens, budget.virtual_hours, budget.wall_hours"),
        (
            ["+budget.steps=5"],
            "budget.steps=5 sets a key that does not exist; use one of tokens, virtual_hours, wall_hours",
        ),
        (["budget.steps=5"], "budget.steps=5 sets a key that does not exist; did you mean budget.tokens?"),
        (
            ["budget.tokens=many"],
            "budget.tokens must be a whole number or null, got many; write budget.tokens=4, for example",
        ),
        (["budget.tokens=1e6"], "budget.tokens must be a whole number or null, got 1000000.0; write 1000000"),
        (
            ["budget.tokens=true"],
            "budget.tokens must be a whole number or null, got true; write budget.tokens=4, for example",
        ),
        (
            ["budget.wall_hours=[1]"],
            "budget.wall_hours must be a number or null, got [1]; write budget.wall_hours=4, for example",
        ),
        (["budget.tokens=0"], "budget.tokens must be > 0 and finite, got 0; use another number, or null for no limit"),
        (
            ["budget.virtual_hours=-1"],
            "budget.virtual_hours must be > 0 and finite, got -1; use another number, or null",
        ),
        (["budget.wall_hours=inf"], "budget.wall_hours must be > 0 and finite, got inf; use another number, or null"),
        (
            ["budget.tokens=127"],
            "budget.tokens must be >= 128, the tokens of the smallest round, got 127; use more, or",
        ),
        (["budget.tokens=255", "strategy.quorum=2"], "budget.tokens must be >= 256, the tokens of the smallest round"),
        (["budget.virtual_hours=0.001"], "budget.virtual_hours must be >= 0.00"),
        (
            ["runtime=deployment", "volatility=none", "budget.wall_hours=0.001"],
            "budget.wall_hours must be >= 0.0",
        ),
        ([*TRACE, "budget.tokens=1000000000"], "budget.tokens must be in reach, got 1000000000 ("),
        ([*TRACE, "budget.virtual_hours=500"], "budget.virtual_hours must be in reach, got 500; lower it, or"),
        (
            ["volatility=intervals", "volatility.on_end=down", "rounds=null", "budget.tokens=1000000000"],
            "budget.tokens must be in reach, got 1000000000 (",
        ),
        (
            [*ENERGY, "budget.virtual_hours=500"],
            "budget.virtual_hours must be in reach, got 500; lower it, or",
        ),
    ],
)
def test_a_bad_budget_ends_with_2_in_one_line_and_leaves_nothing(
    tiny: list[str],
    tmp_path: Path,
    overrides: list[str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    basics = [word for word in tiny if "volatility" in "".join(overrides) and not word.startswith("volatility.")]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run", *(basics or tiny), *overrides])
    assert main() == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"fednano: {line}")
    assert list(tmp_path.iterdir()) == []


def test_rounds_of_which_none_ever_merges_are_refused(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two clients that take turns never reach a quorum of two, and only a budget of tokens would end the run."""
    (tmp_path / "turns.csv").write_text("client,start,stop\na,0,50\nb,50,100\n")
    turns = ["volatility=intervals", "volatility.file=turns.csv", "volatility.period_s=100", "clients=2"]
    monkeypatch.setattr("fednano.training.budget.PATIENCE", 20)
    monkeypatch.chdir(tmp_path)
    basics = [word for word in tiny if not word.startswith("volatility.")]
    words = [*basics, *turns, "strategy.quorum=2", "rounds=null", "budget.tokens=100000"]
    monkeypatch.setattr(sys, "argv", ["run", *words])
    assert main() == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("fednano: budget.tokens must be in reach, got 100000 (0 merged in ")
    assert said.endswith("20 rounds in a row merge nothing; lower strategy.quorum, or change volatility")
    assert [path.name for path in tmp_path.iterdir()] == ["turns.csv"]


def test_a_budget_cannot_be_changed_on_resume(
    run: Run, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run("rounds=1")["folder"]
    OmegaConf.save(compose_config([*tiny, "rounds=1"]), folder / "config.yaml", resolve=True)
    monkeypatch.setattr(sys, "argv", ["run", f"resume={folder}", "budget.tokens=100000"])
    assert main() == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("fednano: budget.tokens=100000 would change the run")
