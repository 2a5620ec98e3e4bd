"""What the conductor of a deployment makes of deaths, with a SuperLink that a test plays."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console as RichConsole

from fednano.coordination.memory import MemoryStore
from fednano.coordination.redis_link import Address
from fednano.coordination.settings import Serving
from fednano.core.event_log import to_line
from fednano.core.events import RoundStarted
from fednano.flower.compat.superlink import RAISED, RunStatus
from fednano.report.terminal.console import Console
from fednano.runtime.deployment import conductor, waiting
from fednano.runtime.deployment.conductor import Conductor
from fednano.runtime.deployment.nodes.attendance import Steady
from fednano.runtime.deployment.serving import LOCK
from fednano.runtime.session import Outcome

RUNS, COMPLETED = RunStatus(False, True, ""), RunStatus(True, False, "")
SILENT = RunStatus(True, True, "No heartbeat received from the task")


class FakeChild:
    ended: int | None = None

    def cause(self) -> str:
        return "SuperLink was killed by SIGKILL"

    def tail(self) -> str:
        return "its last words"

    def stop(self) -> None:
        pass


class FakeLink:
    """Says what `script` has for each question, and remembers what it was given."""

    address, port, certificates = "127.0.0.1:1", 1, None

    def __init__(self, script: list[Callable[["FakeLink"], RunStatus]]) -> None:
        self.child = FakeChild()
        self.submitted: list[bool] = []
        self.starts = 0
        self._script = script

    def start(self) -> None:
        self.starts += 1
        self.child.ended = None

    def register(self, name: str) -> Path:
        return Path("key")

    def submit(self, config: dict[str, Any]) -> int:
        self.submitted.append(config["resume"])
        return len(self.submitted)

    def status(self, run: int) -> RunStatus:
        return self._script.pop(0)(self)

    def end_run(self, run: int) -> None:
        pass

    def stop(self) -> None:
        pass


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Outcome, FakeLink, str]]:
    """Conduct a run of which a SuperLink says `script`; gives the outcome, the SuperLink and what was shown."""
    monkeypatch.setattr(conductor, "pause", lambda seconds: None)
    monkeypatch.setattr(conductor, "ASK_S", 0.0)
    monkeypatch.setattr(conductor, "FLOWERS_WORD_S", -1.0)

    def go(*script: Callable[[FakeLink], RunStatus], restarts: int = 1) -> tuple[Outcome, FakeLink, str]:
        link, shown = FakeLink(list(script)), io.StringIO()
        monkeypatch.setattr(conductor, "SuperLink", lambda **given: link)
        monkeypatch.setattr(conductor, "make_certificates", lambda *args: None)
        played = Conductor(
            folder=tmp_path,
            logs=tmp_path,
            private=tmp_path,
            redis=Serving(Address("redis://127.0.0.1:1")),
            store=MemoryStore(),
            console=lambda: Console("test", tmp_path, RichConsole(file=shown, width=200)),
            clients=("client_0",),
            local=(),
            hosts=("host.example.org",),
            port=1,
            restarts=restarts,
            attend=lambda reach: Steady((), reach.nodes),
        )
        monkeypatch.setattr(played, "_described", lambda: "")
        outcome = played.run("diloco", resume=False)
        played.end()
        return outcome, link, shown.getvalue()

    return go


def _done(folder: Path) -> Callable[[FakeLink], RunStatus]:
    def say(link: FakeLink) -> RunStatus:
        (folder / "summary.json").write_text(json.dumps({"status": "completed", "rounds": 2, "val_bpb": 1.5}))
        return COMPLETED

    return say


def _gone(folder: Path) -> Callable[[FakeLink], RunStatus]:
    """A ServerApp that served once and does no more, of which Flower has not heard."""

    def say(link: FakeLink) -> RunStatus:
        (folder / LOCK).write_text("1")
        return RUNS

    return say


def test_a_run_that_completes_gives_what_its_summary_says(play: Callable[..., Any], tmp_path: Path) -> None:
    outcome, link, _ = play(lambda link: RUNS, _done(tmp_path))
    assert (outcome.status, outcome.progress.rounds, outcome.progress.val_bpb) == ("completed", 2, 1.5)
    assert link.submitted == [False]


def test_it_says_what_the_first_round_waits_for(
    play: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "NOTE_S", 0.0)

    def begins(link: FakeLink) -> RunStatus:
        (tmp_path / "events.jsonl").write_text(to_line(RoundStarted(t=0.0, round=1, version=0)).decode() + "\n")
        return RUNS

    _, _, shown = play(lambda link: RUNS, begins, lambda link: RUNS, _done(tmp_path))
    assert shown.count("waiting for the first round: the ServerApp is starting") == 1
    assert shown.startswith("starting the SuperLink …")


def test_an_exception_of_the_server_fails_the_run_with_its_text(play: Callable[..., Any]) -> None:
    outcome, link, shown = play(lambda link: RunStatus(True, True, RAISED + "rows are lost"))
    assert outcome.status == "failed"
    assert "rows are lost" in str(outcome.error)
    assert "failed" in shown
    assert link.submitted == [False]


def test_a_server_that_died_is_started_again_behind_its_checkpoint(play: Callable[..., Any], tmp_path: Path) -> None:
    def checkpointed(link: FakeLink) -> RunStatus:
        (tmp_path / "checkpoints" / "round_000001").mkdir(parents=True)
        return SILENT

    outcome, link, shown = play(_gone(tmp_path), lambda link: RUNS, checkpointed, _done(tmp_path), restarts=2)
    assert outcome.status == "completed"
    assert link.submitted == [False, False, True]
    assert shown.count("the ServerApp died") == 2
    assert "its last words" in shown


def test_a_server_that_dies_too_often_fails_the_run_with_the_cause(play: Callable[..., Any]) -> None:
    outcome, link, _ = play(lambda link: SILENT, lambda link: SILENT)
    assert outcome.status == "failed"
    assert "No heartbeat received" in str(outcome.error)
    assert "runtime.restarts" in str(outcome.error)
    assert link.submitted == [False, False]


def test_a_superlink_that_died_is_started_again_and_given_the_run(play: Callable[..., Any], tmp_path: Path) -> None:
    def dies(link: FakeLink) -> RunStatus:
        link.child.ended = -9
        raise conductor.UnreachableError

    outcome, link, shown = play(dies, _done(tmp_path))
    assert outcome.status == "completed"
    assert link.starts == 2
    assert link.submitted == [False, False]
    assert "SuperLink was killed by SIGKILL" in shown
