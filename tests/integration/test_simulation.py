"""Flower's Ray simulation: the same weights as on the virtual clock, from processes that leave nothing behind."""

import fcntl
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from flwr.app import Error, Message
from flwr.serverapp import Grid
from flwr.supercore.run import Run as FlowerRun
from ray._private import ray_constants

from fednano.config.compose import compose_config
from fednano.coordination.memory import MemoryStore
from fednano.coordination.store import Lease, StopRequestedError
from fednano.core.clock import RealClock
from fednano.core.event_log import read_log
from fednano.core.events import RoundMerged, UpdateFolded
from fednano.core.inner_step import InnerStep
from fednano.core.progress import Silent
from fednano.data.ledger import Grant
from fednano.experiment.experiment import Experiment
from fednano.flower import records
from fednano.flower.compat.messages import adopt_identity
from fednano.flower.packed import pack_state, payload_bytes
from fednano.runtime.ray.actor import attach_kept, take_kept, tell_step
from fednano.runtime.ray.grid import ClientFailedError, Kept, RayGrid, StepsHeard
from fednano.runtime.ray.simulation import Simulation, available_cores
from fednano.runtime.recipe import Recipe
from fednano.training.local import StepsDone
from fednano.training.worker import Result, Task

Run = Callable[..., dict[str, Any]]

ALWAYS_UP = ("volatility=none", "clients=2", "rounds=2", "hardware.threads=1")


def left_behind() -> set[str]:
    """Temporary folders that are not in use: parallel tests have their own."""
    left = set()
    for path in Path(tempfile.gettempdir()).glob("fednano[-_]*"):
        with suppress(OSError), path_locked(path):
            left.add(path.name)
    return left


@contextmanager
def path_locked(path: Path) -> Iterator[None]:
    """Hold the lock of a temporary folder. Raises OSError if another process holds it or the folder is gone."""
    folder = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(folder)


@pytest.fixture(scope="session")
def tiny(tiny: list[str]) -> list[str]:
    """The overrides without the keys of a profile in which clients leave."""
    return [override for override in tiny if not override.startswith("volatility.")]


class StopsInRound(MemoryStore):
    """Asks for a stop once a round has dispatched work."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self._index = index

    def grant(self, client: str, round: int, expires: float, ahead: bool = False) -> Lease:
        if round == self._index:
            self.request_stop()
        return super().grant(client, round, expires, ahead)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.mark.slow
def test_gives_the_weights_of_the_virtual_runtime_and_leaves_nothing(run: Run, home: Path) -> None:
    before = left_behind()
    virtual = run(*ALWAYS_UP, folder="virtual")
    simulation = run(*ALWAYS_UP, "runtime=simulation", folder="simulation")
    for key in ("status", "weights_sha256", "val_bpb", "tokens", "rounds", "bytes", "rows"):
        assert simulation[key] == virtual[key], key
    assert simulation["audit"]["violations"] == 0
    updates = [e for e in read_log(simulation["folder"] / "events.jsonl") if isinstance(e, UpdateFolded)]
    assert len(updates) == 4
    assert all(0 < e.busy_from < e.busy_until <= e.t for e in updates)
    assert left_behind() == before
    assert list(home.iterdir()) == []
    assert "ClientAppActor" in "".join(path.read_text() for path in (simulation["folder"] / "ray").iterdir())


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(run: Run) -> None:
    """Optimizer states come back from the checkpoint: Muon's momentum makes the difference."""
    options = (*ALWAYS_UP, "rounds=4", "checkpoint_every=1")
    whole = run(*options, folder="whole")
    stopped = run(*options, "runtime=simulation", folder="simulation", store=StopsInRound(2))
    assert (stopped["status"], stopped["rounds"]) == ("interrupted", 2)
    resumed = run(*options, "runtime=simulation", folder="simulation", resume=True)
    assert (resumed["status"], resumed["weights_sha256"]) == ("completed", whole["weights_sha256"])


@pytest.mark.slow
def test_a_budget_ends_a_simulation(run: Run) -> None:
    options = (*ALWAYS_UP, "rounds=null", "budget.tokens=500")
    virtual = run(*options, folder="virtual")
    simulation = run(*options, "runtime=simulation", folder="simulation")
    for key in ("status", "ended_by", "weights_sha256", "rounds", "tokens"):
        assert simulation[key] == virtual[key], key
    assert (simulation["rounds"], simulation["ended_by"]) == (2, "budget.tokens")


@pytest.mark.slow
def test_hours_of_a_simulation_are_those_of_its_clock(run: Run) -> None:
    seconds = 7.2
    hours = f"budget.virtual_hours={seconds / 3600}"
    summary = run(*ALWAYS_UP, "rounds=null", hours, "eval_every=1000", "checkpoint_every=1000", "runtime=simulation")
    ends = [e.t for e in read_log(summary["folder"] / "events.jsonl") if isinstance(e, RoundMerged)]
    assert summary["ended_by"] == "budget.virtual_hours"
    assert all(t < seconds for t in ends[:-1])
    assert ends[-1] >= seconds


@pytest.mark.slow
def test_what_fails_in_a_worker_process_fails_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "fednano.experiment.experiment.Recipe", lambda build, config: Recipe(build, "name: without the rest")
    )
    before = left_behind()
    summary = run(*ALWAYS_UP, "runtime=simulation")
    assert (summary["status"], summary["rounds"], summary["rows"]["leased"]) == ("failed", 0, 0)
    assert left_behind() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"client_cpus": 0.0}, ("runtime.client_cpus must be > 0", "got 0;")),
        ({"client_cpus": available_cores() + 1.0}, ("runtime.client_cpus must be > 0", "at most")),
        ({"client_gpus": -1.0}, ("runtime.client_gpus must be .*, got -1", "use 0 or more")),
    ],
)
def test_bad_shares_are_refused(options: dict[str, float], words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=words[0]) as caught:
        Simulation(**options)
    assert words[1] in str(caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("volatility=markov", ("volatility must be none", "got markov", "runtime=virtual", "runtime=deployment")),
        ("round=seconds", ("round.until must be steps", "got seconds", "use round=steps")),
        ("runtime.client_gpus=0.5", ("runtime.client_gpus must be 0", "got 0.5", "hardware=cuda")),
    ],
)
def test_choices_that_do_not_suit_are_refused_before_anything_runs(
    tiny: list[str], override: str, words: tuple[str, ...]
) -> None:
    experiment = Experiment(compose_config([*tiny, *ALWAYS_UP, "runtime=simulation", override]))
    with pytest.raises(ValueError, match=words[0]) as caught:
        experiment.parts(experiment.prepare(Silent()), MemoryStore())
    assert all(word in str(caught.value) for word in words)


class Answers(Grid):
    """A grid that returns the given replies and records pushed messages."""

    def __init__(self, *replies: Message) -> None:
        self.replies = list(replies)
        self.pushed: list[Message] = []

    def set_run(self, run: FlowerRun) -> None: ...

    @property
    def run(self) -> FlowerRun: ...  # type: ignore[empty-body]

    def create_message(self, *arguments: Any, **named: Any) -> Message: ...  # type: ignore[empty-body]

    def get_node_ids(self) -> Iterable[int]:
        return [2]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self.pushed += messages
        return ["1"]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self.replies

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return []


def task_message() -> Message:
    adopt_identity()
    task = Task(
        client="client_0",
        round=0,
        version=0,
        lease=0,
        grant=Grant(0, ()),
        steps=4,
        tokens_total=0,
        peers=1,
        horizon=100,
    )
    return Message(records.pack_task(task, pack_state({})), 2, "train")


def reply_message(inner: dict[str, torch.Tensor]) -> Message:
    done = StepsDone(steps=4, tokens=128, loss=1.0, cursor=(0, 1), drained=False, train_s=2.0, data_s=0.5)
    result = Result(task_client="client_0", round=0, version=0, lease=0, done=done, busy_from=0.0, busy_until=1.0)
    content = records.pack_result(result, pack_state({}))
    reply = Message(content, reply_to=task_message())
    attach_kept(reply, inner)
    return reply


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[StepsHeard]:
    with StepsHeard(tmp_path / "steps") as heard:
        yield heard


def test_optimizer_states_travel_beside_what_the_federation_sees(heard: StepsHeard) -> None:
    state = {"momentum": torch.tensor([1.0, 2.0])}
    kept = Kept({}, 10.0, 1.0)
    flower = Answers(reply_message(state))
    grid = RayGrid(flower, MemoryStore(), Event(), kept, heard, lambda *step: None)
    (reply,) = grid.pull_messages(["1"])
    assert payload_bytes(reply.content) == 0
    assert (kept.train_s, kept.data_s) == (12.0, 1.5)
    assert kept.states()["client_0"]["momentum"].tolist() == [1.0, 2.0]
    grid.push_messages([task_message()])
    assert take_kept(flower.pushed[0])["momentum"].tolist() == [1.0, 2.0]
    assert take_kept(flower.pushed[0]) == {}


def test_the_error_of_a_client_is_raised_with_its_cause(heard: StepsHeard) -> None:
    failed = Message(Error(0, "the actor died: out of memory"), reply_to=task_message())
    grid = RayGrid(Answers(failed), MemoryStore(), Event(), Kept({}, 0.0, 0.0), heard, lambda *step: None)
    with pytest.raises(ClientFailedError, match="out of memory"):
        grid.pull_messages(["1"])


def test_waiting_ends_when_asked_to_stop_and_when_ray_is_lost(heard: StepsHeard) -> None:
    store, lost = MemoryStore(), Event()
    grid = RayGrid(Answers(), store, lost, Kept({}, 0.0, 0.0), heard, lambda *step: None)
    assert grid.pull_messages(["1"]) == []
    lost.set()
    with pytest.raises(ClientFailedError, match="Ray"):
        grid.pull_messages(["1"])
    store.request_stop()
    with pytest.raises(StopRequestedError):
        grid.pull_messages(["1"])


def test_steps_are_shown_as_they_are_told(heard: StepsHeard, tmp_path: Path) -> None:
    shown: list[InnerStep] = []
    grid = RayGrid(Answers(), MemoryStore(), Event(), Kept({}, 0.0, 0.0), heard, shown.append)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
        tell_step(
            teller, tmp_path / "steps", InnerStep(client="client_0", round=0, step=1, steps=4, loss=2.5, tokens=32)
        )
        tell_step(
            teller, tmp_path / "nobody", InnerStep(client="client_0", round=0, step=2, steps=4, loss=2.5, tokens=32)
        )
    grid.pull_messages(["1"])
    assert shown == [InnerStep(client="client_0", round=0, step=1, steps=4, loss=2.5, tokens=32)]


def test_ray_installs_nothing_anew_below_uv_run() -> None:
    assert not ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV, "workers would wait for a copy of the working directory"


def test_clocks_of_one_machine_agree() -> None:
    clock = RealClock(at=100.0)
    other = RealClock(since=clock.since)
    readings = clock.now(), other.now(), clock.now()
    assert 100.0 <= readings[0] <= readings[1] <= readings[2]
