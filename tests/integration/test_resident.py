"""The resident trainer as a process: the same bytes as in process, drained by SIGTERM, reported dead after SIGKILL."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from omegaconf import OmegaConf

from fednano.config.compose import compose_config
from fednano.coordination.memory import MemoryStore
from fednano.core.clock import RealClock
from fednano.core.progress import Silent
from fednano.experiment.experiment import Experiment
from fednano.flower import records, relay, wire
from fednano.flower.client_app import answer
from fednano.flower.compat.messages import adopt_identity
from fednano.flower.packed import pack_state
from fednano.flower.wire import WireMessage
from fednano.node.settings import NodeSettings, encode
from fednano.runtime.beginning import first_ledger, local_trainer, untrained
from fednano.runtime.parts import Parts
from fednano.training.local import LocalTrainer
from fednano.training.overlap import Advance
from fednano.training.worker import ClientWorker, Task

# Its coordination store: heartbeats and steps go out as lines, and files in its folder say what is asked of it.
STAND_IN = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from fednano.coordination.store import StopRequestedError
from fednano.node.trainer import serve

folder = Path(sys.argv[2])

class Post:
    def heartbeat(self, heartbeat): tell("heartbeat", **asdict(heartbeat))
    def holds(self, lease, token): return not (folder / "lost").exists() and token == "right"
    def may_hold(self, lease, token): return self.holds(lease, token)
    def asked(self, lease, now): return (folder / "asked").exists()
    def check_stop(self):
        if (folder / "stop").exists(): raise StopRequestedError
    def tell_step(self, step): tell("step", step=step.step, client=step.client, round=step.round)
    def close(self): tell("closed")

def tell(what, **fields):
    print(json.dumps({"what": what, **fields}), flush=True)

sys.exit(serve(sys.argv[1], lambda run, name, clock: Post()))
"""


class Trainer:
    """A trainer's process, and what it has reported."""

    def __init__(self, settings: NodeSettings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        command = [sys.executable, "-c", STAND_IN, encode(settings, None), str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []

    def until(self, what: str, **fields: Any) -> dict[str, Any]:
        """Read its reports until this one."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            told = json.loads(line) if line.startswith("{") else {}
            if told.get("what") == what and all(told[key] == value for key, value in fields.items()):
                return dict(told)
        raise AssertionError(f"{what} {fields} was not told: {''.join(self.lines)}")

    def says(self, words: str) -> None:
        """Read its reports until it has said these."""
        assert self.process.stdout
        assert any(words in line for line in self.process.stdout), words

    def ask(self, content: RecordDict) -> "Asked":
        """Send it a task as the relay does, in a thread."""
        return Asked(self.settings, content)


class Asked(Thread):
    """The relay with one message."""

    def __init__(self, settings: NodeSettings, content: RecordDict, kind: str = "train") -> None:
        super().__init__()
        adopt_identity()
        self.node: dict[str, bool | float | int | str] = {"name": settings.name, "socket": str(settings.socket)}
        self.content = content
        self.kind = kind
        self.replies: list[Message] = []
        self.start()

    def run(self) -> None:
        message = Message(self.content, 2, self.kind)
        message.metadata.__dict__["_message_id"] = "1"
        self.replies.append(relay.app(message, Context(1, 2, self.node, RecordDict(), {})))

    def reply(self) -> Message:
        self.join()
        return self.replies[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def parts(tiny: list[str], folder: Path) -> Parts:
    """The parts of a run whose config.yaml lies in the folder."""
    experiment = Experiment(cfg := compose_config(tiny))
    OmegaConf.save(OmegaConf.create(experiment.resolved(cfg)), folder / "config.yaml")
    return experiment.parts(experiment.prepare(Silent()), MemoryStore())


def started(config: Path | None, folder: Path) -> Iterator[Trainer]:
    settings = NodeSettings(
        name="client_0",
        superlink="127.0.0.1:1",
        run="test" if config else None,
        config=str(config) if config else None,
        folder=str(folder / "node"),
        root_certificates=None,
        private_key=None,
        insecure=True,
        drain_s=10.0,
    )
    trainer = Trainer(settings, folder)
    yield trainer
    trainer.process.kill()
    trainer.process.wait()
    assert trainer.process.stdout
    trainer.process.stdout.close()


@pytest.fixture(scope="module")
def resident(parts: Parts, folder: Path) -> Iterator[Trainer]:
    """A trainer that runs before and after a test."""
    for trainer in started(folder / "config.yaml", folder):
        trainer.until("heartbeat")
        yield trainer


@pytest.fixture
def mortal(parts: Parts, folder: Path, tmp_path: Path) -> Iterator[Trainer]:
    """A trainer that a test may end."""
    yield from started(folder / "config.yaml", tmp_path)


@pytest.fixture
def untold(parts: Parts, tmp_path: Path) -> Iterator[Trainer]:
    """A trainer that waits for the server to say what to run."""
    yield from started(None, tmp_path)


def task_of(
    parts: Parts, steps: int = 4, token: str = "right", lease: int = 0, ahead: Advance | None = None
) -> RecordDict:
    grant = first_ledger(parts).lease(lease, 0, parts.rows_for(0, steps * parts.tokens_per_step))
    task = Task(
        client="client_0",
        round=lease,
        version=0,
        lease=lease,
        grant=grant,
        steps=steps,
        tokens_total=0,
        peers=1,
        horizon=1000,
        token=token,
        ahead=ahead,
    )
    return records.pack_task(task, pack_state(untrained(parts)))


def steps_ahead(parts: Parts, steps: int, lease: int = 1) -> Advance:
    """On the rows that `task_of` makes of a lease."""
    return Advance(
        lease,
        "right",
        first_ledger(parts).lease(lease, 0, parts.rows_for(0, max(4, steps) * parts.tokens_per_step)),
        steps,
    )


def a_worker(parts: Parts) -> tuple[ClientWorker, LocalTrainer]:
    trainer = local_trainer(parts, parts.tokens_per_step)
    worker = ClientWorker(
        client="client_0",
        trainer=trainer,
        source=parts.source,
        pools=parts.pools.rows,
        shape=parts.shape,
        packing=parts.packing,
        tokens_per_s=parts.hardware.speed(0),
        clock=RealClock(),
        may_step=lambda step_s: True,
        on_step=lambda *step: None,
    )
    return worker, trainer


def in_process(parts: Parts, contents: list[RecordDict]) -> list[RecordDict]:
    """The answer of a ClientWorker in this process."""
    worker, _ = a_worker(parts)
    return [answer(content, worker.work, parts.codecs, worker.memory) for content in contents]


def settled(content: RecordDict) -> dict[str, Any]:
    """A result without its times."""
    times = ("train_s", "data_s", "busy_from", "busy_until", "ahead")
    return {k: v for k, v in content.config_records[records.RESULT].items() if k not in times}


def test_tasks_give_the_same_bytes_as_in_process(parts: Parts, mortal: Trainer) -> None:
    first = mortal.until("heartbeat")
    assert (first["ready"], first["step_s"], first["lease"]) == (False, 0.0, -1)
    ready = mortal.until("heartbeat", ready=True)
    assert ready["step_s"] > 0
    tasks = [task_of(parts), task_of(parts, steps=3)]  # the second goes on with the optimizer of the first
    for asked, expected in zip(tasks, in_process(parts, tasks), strict=True):
        reply = mortal.ask(asked).reply()
        assert not reply.has_error()
        assert settled(reply.content) == settled(expected)
        assert reply.content.array_records == expected.array_records
        result = records.unpack_result(reply.content)
        assert 0 <= result.busy_from <= result.busy_until
    assert mortal.until("heartbeat", lease=0)["incarnation"] == ready["incarnation"]
    assert mortal.until("step", step=4)["client"] == "client_0"
    # Then it is killed over a task.
    asked = mortal.ask(task_of(parts, steps=5000))
    mortal.until("step", step=9)
    mortal.process.kill()
    assert "the trainer of client_0 failed" in str(asked.reply().error.reason)


@pytest.mark.parametrize("by", ["SIGTERM", "another run"])
def test_who_leaves_hands_in_after_the_step_under_way(
    parts: Parts, folder: Path, untold: Trainer, tmp_path: Path, by: str
) -> None:
    untold.settings.home.mkdir(mode=0o700)
    plain = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    Asked(untold.settings, run_record("r1", plain), "query").reply()
    untold.until("heartbeat", ready=True)
    asked = untold.ask(task_of(parts, steps=5000))
    untold.until("step", step=2)
    (tmp_path / "lost").touch()  # so that it does not linger
    if by == "SIGTERM":
        untold.process.send_signal(signal.SIGTERM)
    else:
        Asked(untold.settings, run_record("r1", plain), "query").reply()
        assert untold.until("step")["step"] > 2, "the same run goes on"
        Asked(untold.settings, run_record("r2", plain), "query").reply()
    result = records.unpack_result(asked.reply().content)
    assert result.done.drained
    assert 2 <= result.done.steps < 5000
    untold.until("heartbeat", leaving=True, ready=False, lease=-1)
    untold.until("closed")
    assert untold.process.wait() == 0
    assert not untold.settings.socket.exists()


def run_record(run: str, config: Any) -> RecordDict:
    return RecordDict({relay.RUN: ConfigRecord({"run": run, "config": json.dumps(config)})})


def test_a_request_to_submit_is_no_departure(parts: Parts, resident: Trainer) -> None:
    (resident.folder / "asked").touch()
    done = records.unpack_result(resident.ask(task_of(parts, steps=5000)).reply().content).done
    (resident.folder / "asked").unlink()
    assert (done.steps, done.drained) == (1, False)


def test_work_for_nobody_is_dropped_and_forgotten(parts: Parts, resident: Trainer) -> None:
    with closing(wire.connect(resident.settings.socket)) as connection:
        wire.send(connection, WireMessage(wire.TRAIN, task_of(parts, steps=5000)))
        resident.until("heartbeat", lease=0)
        resident.until("step", step=1)
    # The next task begins as a first one does.
    (expected,) = in_process(parts, [task_of(parts)])
    assert resident.ask(task_of(parts)).reply().content.array_records == expected.array_records


def test_steps_ahead_are_taken_between_two_tasks(parts: Parts, resident: Trainer) -> None:
    """It takes as many as allowed, and the next task does the rest: the same bytes as in process."""
    first, second = task_of(parts, ahead=steps_ahead(parts, 3)), task_of(parts, lease=1)
    forget(parts, resident)
    assert not resident.ask(first).reply().has_error()
    resident.until("step", round=1, step=3)
    reply = resident.ask(second).reply()
    result = records.unpack_result(reply.content)
    assert result.done.steps == 4
    begun, ended = result.ahead
    assert begun < ended <= 0 <= result.busy_from <= result.busy_until
    resident.until("step", round=1, step=4)

    worker, trainer = a_worker(parts)
    answer(first, worker.work, parts.codecs, worker.memory)
    assert worker.onward
    worker.onward.go(trainer, RealClock(), lambda step_s: True, lambda step, loss: None)
    expected = answer(second, worker.work, parts.codecs, worker.memory)
    assert reply.content.array_records == expected.array_records
    assert settled(reply.content) == settled(expected)


def test_steps_ahead_end_as_the_next_task_comes(parts: Parts, resident: Trainer) -> None:
    forget(parts, resident)
    resident.ask(task_of(parts, ahead=steps_ahead(parts, 5000))).reply()
    resident.until("step", round=1, step=2)
    (resident.folder / "asked").touch()  # so that the task takes one step
    done = records.unpack_result(resident.ask(task_of(parts, lease=1, steps=5000)).reply().content).done
    (resident.folder / "asked").unlink()
    assert 2 < done.steps < 5000


def test_steps_ahead_end_with_their_lease_and_are_forgotten(parts: Parts, resident: Trainer) -> None:
    forget(parts, resident)
    resident.ask(task_of(parts, ahead=steps_ahead(parts, 5000))).reply()
    resident.until("step", round=1, step=2)
    (resident.folder / "lost").touch()
    resident.says("steps ahead")
    (resident.folder / "lost").unlink()
    (expected,) = in_process(parts, [task_of(parts, lease=2)])
    assert resident.ask(task_of(parts, lease=2)).reply().content.array_records == expected.array_records


def test_a_stop_ends_steps_ahead_too(parts: Parts, resident: Trainer) -> None:
    forget(parts, resident)
    resident.ask(task_of(parts, ahead=steps_ahead(parts, 5000))).reply()
    resident.until("step", round=1, step=2)
    (resident.folder / "stop").touch()
    refused = resident.ask(task_of(parts, lease=1)).reply()
    (resident.folder / "stop").unlink()
    assert "asked to stop" in refused.error.reason
    (expected,) = in_process(parts, [task_of(parts, lease=1)])
    assert resident.ask(task_of(parts, lease=1)).reply().content.array_records == expected.array_records


def test_who_leaves_ends_its_steps_ahead(parts: Parts, mortal: Trainer) -> None:
    mortal.until("heartbeat", ready=True)
    mortal.ask(task_of(parts, ahead=steps_ahead(parts, 5000))).reply()
    mortal.until("step", round=1, step=2)
    (mortal.folder / "lost").touch()  # so that it does not linger
    mortal.process.send_signal(signal.SIGTERM)
    mortal.until("closed")
    assert mortal.process.wait() == 0


def forget(parts: Parts, trainer: Trainer) -> None:
    """Make a trainer drop its optimizer state, as it does after work that nothing waits for."""
    with closing(wire.connect(trainer.settings.socket)) as connection:
        wire.send(connection, WireMessage(wire.TRAIN, task_of(parts, steps=5000, lease=9)))
        trainer.until("step", round=9, step=1)


def test_refused_tasks_leave_the_trainer_at_work(parts: Parts, resident: Trainer) -> None:
    forged = resident.ask(task_of(parts, token="wrong")).reply()
    assert "lease 0 is no longer held by client_0" in forged.error.reason
    assert "refuses the task" in resident.ask(RecordDict({"x": ConfigRecord({"a": 1})})).reply().error.reason
    (resident.folder / "stop").touch()
    assert "asked to stop" in resident.ask(task_of(parts)).reply().error.reason
    (resident.folder / "stop").unlink()
    assert not resident.ask(task_of(parts)).reply().has_error()


def test_another_trainer_finds_the_socket_taken(parts: Parts, resident: Trainer) -> None:
    with pytest.raises(ValueError, match="another trainer"):
        wire.listen(resident.settings.socket)
    with closing(wire.connect(resident.settings.socket)) as connection:
        wire.send(connection, WireMessage("nonsense"))
        assert "'nonsense' is unknown" in wire.reason_of(wire.receive(connection).content)
