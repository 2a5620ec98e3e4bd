"""A live run's server side on a coordination store and a clock that a test moves by hand."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from queue import SimpleQueue

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from support.awaiting import WITHIN_S, until
from support.hand_store import HandStore

from fednano.coordination.memory import MemoryStore
from fednano.coordination.store import NO_LEASE, Heartbeat, StopRequestedError
from fednano.core.clock import VirtualClock
from fednano.core.inner_step import InnerStep
from fednano.core.lines import Lines
from fednano.federation.live_members import DOUBT_S, SUBMIT_S, LiveMembership
from fednano.federation.plan import Site
from fednano.flower.compat.messages import adopt_identity, identity_kept
from fednano.flower.live_grid import AGAIN_S, ASK_S, Invitation, LiveGrid
from fednano.flower.records import RESULT, TASK
from fednano.flower.relay import RUN
from fednano.flower.wire import NODE
from fednano.runtime.deployment.server import LiveClock
from fednano.runtime.deployment.serving import LOCK, StopSignal, read_step, server_pid

LOST_S = 60.0
HEARTBEAT = Heartbeat(name="client_0", incarnation="first", ready=True, leaving=False, step_s=0.5, lease=NO_LEASE)


class Scene:
    """Two clients, of whose nodes Flower knows those in `nodes`."""

    def __init__(self) -> None:
        self.store = HandStore()
        self.nodes = {"client_0": 70, "client_1": 71, "stranger": 72}
        self.asked = 0
        self.sites = {f"client_{i}": Site(node_id=-1, pool=i, step_s=9.0, down_s=5.0, up_s=5.0) for i in range(2)}
        self.failed: dict[str, float] = {}
        self.members = LiveMembership(["client_0", "client_1"], self.store, self._node_ids, self.sites, self.failed)

    def _node_ids(self) -> dict[str, int]:
        self.asked += 1
        return dict(self.nodes)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_client_is_up_while_it_heartbeats_and_is_warm(scene: Scene) -> None:
    assert scene.members.up(0.0) == ()
    scene.store.heartbeat(replace(HEARTBEAT, ready=False))
    assert scene.members.up(1.0) == ()
    scene.store.heartbeat(HEARTBEAT)
    assert scene.members.up(2.0) == ("client_0",)
    assert scene.members.window("client_0", 2.0) is not None
    assert scene.members.window("client_1", 2.0) is None
    del scene.store.heartbeats["client_0"]
    assert scene.members.up(3.0) == ()
    assert not scene.members.is_up("client_0", 3.0)


def test_who_came_or_went_is_told_once_and_all_are_at_first(scene: Scene) -> None:
    assert scene.members.moved(0.0) == ["client_0", "client_1"]
    scene.store.heartbeat(replace(HEARTBEAT, name="client_1"))
    scene.store.heartbeat(HEARTBEAT)
    assert scene.members.moved(1.0) == ["client_0", "client_1"]
    assert scene.members.moved(2.0) == []
    # Who went and came back between two questions has moved all the same.
    scene.store.heartbeats.clear()
    scene.members.up(3.0)
    scene.store.heartbeat(HEARTBEAT)
    assert scene.members.moved(4.0) == ["client_0", "client_1"]


def test_a_node_that_flower_does_not_know_is_not_up(scene: Scene) -> None:
    del scene.nodes["client_0"]
    scene.store.heartbeat(HEARTBEAT)
    assert scene.members.up(0.0) == ()
    scene.nodes["client_0"] = 80
    assert scene.members.up(1.0) == ("client_0",)
    assert scene.sites["client_0"].node_id == 80


def test_a_node_that_flower_has_lost_is_down_though_its_trainer_heartbeats(scene: Scene) -> None:
    scene.store.heartbeat(HEARTBEAT)
    assert scene.members.up(0.0) == ("client_0",)
    del scene.nodes["client_0"]
    assert scene.members.up(1.0) == ("client_0",)
    assert scene.asked == 1
    assert scene.members.up(6.0) == ()


def test_who_failed_is_down_until_the_last_heartbeats_of_a_dead_trainer_are_over(scene: Scene) -> None:
    scene.store.heartbeat(HEARTBEAT)
    assert scene.members.up(0.0) == ("client_0",)
    scene.failed["client_0"] = 10.0
    assert scene.members.up(10.1) == scene.members.up(10.0 + DOUBT_S - 0.1) == ()
    assert scene.members.up(10.0 + DOUBT_S) == ("client_0",)


def test_nodes_under_other_names_are_nobody(scene: Scene) -> None:
    scene.store.heartbeat(replace(HEARTBEAT, name="stranger"))
    assert scene.members.up(0.0) == ()
    assert scene.members.moved(0.0) == ["client_0", "client_1"]
    assert scene.asked == 0


def test_sites_follow_the_nodes_and_what_they_measure(scene: Scene) -> None:
    scene.store.heartbeat(HEARTBEAT)
    scene.members.up(0.0)
    assert scene.sites["client_0"] == Site(node_id=70, pool=0, step_s=0.5, down_s=5.0, up_s=5.0)
    scene.store.heartbeat(replace(HEARTBEAT, step_s=0.25))
    scene.members.up(1.0)
    assert scene.sites["client_0"].step_s == 0.25
    scene.store.heartbeat(replace(HEARTBEAT, step_s=0.0))
    scene.members.up(2.0)
    assert scene.sites["client_0"].step_s == 0.25  # unknown is not zero
    assert scene.asked == 1
    assert scene.sites["client_1"] == Site(node_id=71, pool=1, step_s=9.0, down_s=5.0, up_s=5.0)


def test_a_trainer_that_was_restarted_was_down_in_between(scene: Scene) -> None:
    scene.store.heartbeat(HEARTBEAT)
    assert scene.members.up(0.0) == ("client_0",)
    scene.nodes["client_0"] = 99
    scene.store.heartbeat(replace(HEARTBEAT, incarnation="second"))
    assert scene.members.up(1.0) == ()
    assert scene.members.up(2.0) == ("client_0",)
    assert scene.sites["client_0"].node_id == 99


def test_who_leaves_is_up_as_long_as_it_holds_a_lease(scene: Scene) -> None:
    scene.store.heartbeat(HEARTBEAT)
    scene.members.up(0.0)
    lease = scene.store.grant("client_0", 0, 100.0)
    scene.store.heartbeat(replace(HEARTBEAT, ready=False, leaving=True))
    assert scene.members.up(1.0) == ("client_0",)
    scene.store.heartbeats.clear()  # the trainer has ended; its answer is still on its way through Flower
    assert scene.members.up(2.0) == ("client_0",)
    assert scene.members.up(1.0 + SUBMIT_S + 0.1) == ()
    scene.store.give_up(lease.id)


def test_who_leaves_without_a_lease_is_gone_and_one_that_crashes_too(scene: Scene) -> None:
    scene.store.heartbeat(HEARTBEAT)
    scene.store.heartbeat(replace(HEARTBEAT, name="client_1"))
    assert scene.members.up(0.0) == ("client_0", "client_1")
    scene.store.grant("client_1", 0, 100.0)
    scene.store.grant("client_0", 1, 100.0, ahead=True)  # for work that nobody has asked for
    scene.store.heartbeat(replace(HEARTBEAT, ready=False, leaving=True))
    del scene.store.heartbeats["client_1"]
    assert scene.members.up(1.0) == ()


def test_possible_steps_are_those_of_the_time_up_at_the_measured_speed(scene: Scene) -> None:
    scene.store.heartbeat(HEARTBEAT)
    scene.members.up(10.0)
    scene.members.up(14.0)
    scene.store.heartbeat(replace(HEARTBEAT, name="client_1", step_s=2.0))
    scene.members.up(16.0)
    scene.members.up(20.0)
    assert scene.members.possible_steps() == pytest.approx(10.0 / 0.5 + 4.0 / 2.0)


def test_the_clock_heeds_a_stop_and_hands_on_steps(tmp_path: Path) -> None:
    store, path = HandStore(), tmp_path / "steps.jsonl"
    times: list[float] = []
    clock = LiveClock(VirtualClock(), store, path, times.append)
    lines = Lines(path)
    clock.wait(1.0)
    assert lines.new() == []
    step = InnerStep(client="client_0", round=1, step=2, steps=4, loss=5.5, tokens=32)
    store.told.append(step)
    clock.wait(2.0)
    assert clock.now() == 2.0
    assert [read_step(line) for line in lines.new() or ()] == [step]
    assert times == [0.0, 1.0]
    assert lines.new() == []
    store.request_stop()
    with pytest.raises(StopRequestedError):
        clock.wait(3.0)


def test_a_line_is_read_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    lines = Lines(path)
    path.write_bytes(b"one\ntw")
    assert lines.new() == ["one\n"]
    with path.open("ab") as file:
        file.write("ö\nthree\n".encode())
    assert lines.new() == ["twö\n", "three\n"]


def test_lines_that_are_cut_off_are_noticed_though_others_have_followed(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"kept\ncut off\n")
    lines = Lines(path)
    assert lines.new() == ["kept\n", "cut off\n"]
    path.write_bytes(b"kept\n")
    assert lines.new() is None
    path.write_bytes(b"kept\nwritten since\nand on\n")
    assert lines.new() is None
    assert Lines(path).new() == ["kept\n", "written since\n", "and on\n"]


class FakeGrid(Grid):
    """Gives back one reply, and knows nodes: one is connected, one not any more, and one has missed a heartbeat."""

    def __init__(self, content: RecordDict) -> None:
        self._content = content
        self.pushed: list[Message] = []

    def set_run(self, run: Run) -> None: ...

    @property
    def run(self) -> Run:
        return Run.create_empty(1)

    def create_message(self, *args: object) -> Message:
        raise AssertionError("whoever has this grid makes messages by itself")

    def get_node_ids(self) -> Iterable[int]:
        return [70]

    def get_nodes(self) -> Iterable[NodeInfo]:
        now = datetime.now(UTC).timestamp()
        return [
            NodeInfo(node_id=70, name="client_0", status="online", online_until=now + 35.0),
            NodeInfo(node_id=71, name="client_1", status="offline", online_until=now + 35.0),
            NodeInfo(node_id=73, name="client_2", status="online", online_until=now + 15.0),
        ]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        new = list(messages)
        self.pushed += new
        return [f"message_{len(self.pushed) - i}" for i in range(len(new))]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [Message(self._content, 1, "train")]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return []


class LateGrid(FakeGrid):
    """Has its reply once a test puts it there, and tells who asked for it."""

    def __init__(self, content: RecordDict) -> None:
        super().__init__(content)
        self.here = False
        self.asked: SimpleQueue[str] = SimpleQueue()

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for message_id in message_ids:
            self.asked.put(message_id)
        return super().pull_messages(message_ids) if self.here else []


class NamelessGrid(FakeGrid):
    """Knows nodes without keys, which tell their names once they are asked; the first answer got lost."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__(RecordDict())
        self.names = names
        self.lost = True

    def get_nodes(self) -> Iterable[NodeInfo]:
        registered = NodeInfo(node_id=70, name="client_0", status="online", online_until=inf)
        return [registered, *(NodeInfo(node_id=node, status="online", online_until=inf) for node in self.names)]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        new = list(messages)
        self.pushed += new
        return [f"to {message.metadata.dst_node_id}" for message in new]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for message_id in message_ids:
            name = self.names[int(message_id.removeprefix("to "))]
            told = Message(RecordDict({NODE: ConfigRecord({"name": name})}), 1, "query")
            reply = Message(Error(0, "lost"), reply_to=told) if self.lost else told
            reply.metadata.__dict__["_reply_to_message_id"] = message_id
            yield reply


def test_nodes_without_keys_tell_their_names() -> None:
    fake = NamelessGrid({80: "client_1", 90: "client_0"})
    with identity_kept():
        adopt_identity()
        grid = LiveGrid(fake, VirtualClock(), HandStore(), LOST_S)
        assert grid.node_ids() == {"client_0": 70}
        assert [message.metadata.dst_node_id for message in fake.pushed] == [80, 90]
        assert grid.node_ids() == {"client_0": 70}  # asked again
        fake.lost = False
        assert grid.node_ids() == {"client_0": 70, "client_1": 80}  # a registered name is not for others
        assert len(fake.pushed) == 4
        fake.names[100] = "client_1"
        grid.node_ids()
        assert grid.node_ids()["client_1"] == 100
        del fake.names[100]
        assert grid.node_ids()["client_1"] == 80


@pytest.mark.parametrize(
    ("begun", "ended", "told"), [(0.5, 3.0, (17.5, 20.0)), (3.0, 0.5, (3.0, 0.5)), ("x", 1.0, ("x", 1.0))]
)
def test_replies_tell_times_on_the_runs_clock(begun: object, ended: float, told: tuple[object, float]) -> None:
    with identity_kept():
        adopt_identity()
        record = ConfigRecord({"busy_from": begun, "busy_until": ended, "ahead": [-1.0, 0.5]})  # type: ignore[dict-item]
        grid = LiveGrid(FakeGrid(RecordDict({RESULT: record})), VirtualClock(20.0), HandStore(), LOST_S)
        task = RecordDict({TASK: ConfigRecord({"client": "client_0", "lease": 7, "round": 0})})
        (message,) = grid.push_messages([grid.create_message(task, "train", 70, "0")])
        until(lambda: grid.arrived() == [message])
        (reply,) = grid.pull_messages([message])
        assert not list(grid.pull_messages([message]))
    result = reply.content.config_records[RESULT]
    assert (result["busy_from"], result["busy_until"]) == told
    assert result["ahead"] == ([20.0 - ended - 1.0, 20.0 - ended + 0.5] if begun == 0.5 else [-1.0, 0.5])
    assert grid.node_ids() == {"client_0": 70}


class GarbledGrid(FakeGrid):
    """Has a reply that Flower cannot read."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise KeyError("NoSuchClass")


def test_a_reply_that_flower_cannot_read_is_an_error_of_its_client() -> None:
    with identity_kept():
        adopt_identity()
        grid = LiveGrid(GarbledGrid(RecordDict()), VirtualClock(20.0), HandStore(), LOST_S)
        task = RecordDict({TASK: ConfigRecord({"client": "client_0", "lease": 7, "round": 0})})
        (message,) = grid.push_messages([grid.create_message(task, "train", 70, "0")])
        until(lambda: grid.arrived() == [message])
        (reply,) = grid.pull_messages([message])
        assert "cannot be read: KeyError('NoSuchClass')" in reply.error.reason
        assert grid.failed == {"client_0": 20.0}


@pytest.mark.parametrize("told", [{}, {"name": 7}, {"name": [1.0]}])
def test_a_node_that_tells_no_name_has_none(told: dict[str, object]) -> None:
    fake = NamelessGrid({80: "client_1"})
    fake.lost = False
    fake.pull_messages = lambda ids: [_named(ids, told)]  # type: ignore[method-assign]
    with identity_kept():
        adopt_identity()
        grid = LiveGrid(fake, VirtualClock(), HandStore(), LOST_S)
        grid.node_ids()
        assert grid.node_ids() == {"client_0": 70}


def _named(ids: Iterable[str], told: dict[str, object]) -> Message:
    reply = Message(RecordDict({NODE: ConfigRecord(told)}), 1, "query")  # type: ignore[arg-type]
    (reply.metadata.__dict__["_reply_to_message_id"],) = ids
    return reply


def test_work_ended_when_its_client_last_said_that_it_works_on_it() -> None:
    store, clock = HandStore(), VirtualClock()
    task = RecordDict({TASK: ConfigRecord({"client": "client_0", "lease": 7, "round": 0})})
    result = ConfigRecord({"busy_from": 0.5, "busy_until": 3.0})
    with identity_kept():
        adopt_identity()
        grid = LiveGrid(FakeGrid(RecordDict({RESULT: result})), clock, store, LOST_S)
        (message,) = grid.push_messages([grid.create_message(task, "train", 70, "0")])
        store.heartbeat(replace(HEARTBEAT, lease=7))
        for _ in range(16):
            clock.charge(ASK_S)
            assert grid.arrived() == []
        store.heartbeat(HEARTBEAT)
        clock.charge(6.0)
        until(lambda: grid.arrived() == [message])
        list(grid.pull_messages([message]))
    assert (result["busy_from"], result["busy_until"]) == (1.5, 4.0)


def test_a_reply_is_asked_for_now_and_then_and_not_while_its_task_is_worked_on() -> None:
    store, clock = HandStore(), VirtualClock()
    with identity_kept():
        adopt_identity()
        fake = LateGrid(RecordDict())
        grid = LiveGrid(fake, clock, store, LOST_S)
        task = RecordDict({TASK: ConfigRecord({"client": "client_0", "lease": 7, "round": 0})})
        (message,) = grid.push_messages([grid.create_message(task, "train", 70, "0")])
        store.heartbeat(replace(HEARTBEAT, lease=7))
        assert not grid.arrived()
        store.heartbeat(replace(HEARTBEAT, lease=8))
        clock.wait(ASK_S / 2)
        assert not grid.arrived()
        clock.wait(ASK_S)
        assert not grid.arrived()
        assert fake.asked.get(timeout=WITHIN_S) == message
        until(lambda: not grid.arrived() and not grid.pulling)  # it was not there
        assert fake.asked.empty()
        fake.here = True
        clock.wait(2 * ASK_S)
        until(lambda: grid.arrived() == [message])
        assert fake.asked.get(timeout=WITHIN_S) == message and fake.asked.empty()


class FailingGrid(FakeGrid):
    """Every task comes back as an error."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [Message(Error(2, "no trainer"), reply_to=Message(RecordDict(), 1, "train"))]


def test_a_client_has_failed_if_its_newest_task_came_back_as_an_error() -> None:
    task = RecordDict({TASK: ConfigRecord({"client": "client_0", "lease": 7, "round": 0})})
    with identity_kept():
        adopt_identity()
        grid = LiveGrid(FailingGrid(RecordDict()), VirtualClock(20.0), HandStore(), LOST_S)
        older, newer = (*grid.push_messages([grid.create_message(task, "train", 70, "0") for _ in range(2)]),)
        until(lambda: len(grid.arrived()) == 2)
        assert [reply.has_error() for reply in grid.pull_messages([older])] == [True]
        assert not grid.failed
        list(grid.pull_messages([newer]))
    assert grid.failed == {"client_0": 20.0}


def test_a_task_of_which_an_idle_trainer_says_nothing_for_long_is_lost() -> None:
    store, clock = HandStore(), VirtualClock()
    task = RecordDict({TASK: ConfigRecord({"client": "client_0", "lease": 7, "round": 0})})
    with identity_kept():
        adopt_identity()
        fake = LateGrid(RecordDict())
        grid = LiveGrid(fake, clock, store, LOST_S)
        (message,) = grid.push_messages([grid.create_message(task, "train", 70, "0")])

        def asked_after(seconds: float, heartbeat: Heartbeat | None) -> bool:
            """Whether the task is lost by then."""
            store.heartbeats = {heartbeat.name: heartbeat} if heartbeat else {}
            clock.charge(seconds)
            begun = grid.arrived()
            if not begun:
                until(lambda: grid.arrived() or not grid.pulling)
            return bool(grid.arrived())

        at_work, ahead = replace(HEARTBEAT, lease=7), replace(HEARTBEAT, lease=8)
        for heartbeat in (HEARTBEAT, at_work, HEARTBEAT, None, HEARTBEAT, ahead, HEARTBEAT):
            assert not asked_after(LOST_S, heartbeat)
        assert not asked_after(LOST_S, HEARTBEAT)
        assert asked_after(ASK_S, HEARTBEAT)
        (reply,) = grid.pull_messages([message])
        assert reply.has_error() and reply.metadata.reply_to_message_id == message
        assert grid.failed == {"client_0": clock.now()}
        assert not asked_after(ASK_S, HEARTBEAT)

        (message,) = grid.push_messages([grid.create_message(task, "train", 70, "1")])
        assert not asked_after(ASK_S, HEARTBEAT)
        fake.here = True
        assert asked_after(2 * LOST_S, HEARTBEAT)
        (reply,) = grid.pull_messages([message])
        assert not reply.has_error(), "it had come before it was taken for lost"


def test_nodes_elsewhere_are_told_what_is_run_until_they_heartbeat() -> None:
    store, fake = HandStore(), FakeGrid(RecordDict())
    with identity_kept():
        adopt_identity()
        grid = LiveGrid(fake, VirtualClock(), store, LOST_S)
        invitation = Invitation(grid, store, ["client_0", "client_1"], "run-name", {"seed": 1})
        invitation.send(0.0)
        (message,) = fake.pushed
        assert (message.metadata.dst_node_id, message.metadata.message_type) == (70, "query")
        assert dict(message.content.config_records[RUN]) == {"run": "run-name", "config": '{"seed": 1}'}
        invitation.send(1.0)
        assert len(fake.pushed) == 1
        invitation.send(AGAIN_S)
        assert len(fake.pushed) == 2
        store.heartbeat(HEARTBEAT)
        invitation.send(2 * AGAIN_S)
        assert len(fake.pushed) == 2


SERVER = """
import sys
from pathlib import Path
from fednano.coordination.memory import MemoryStore
from fednano.runtime.deployment.serving import StopSignal, serving
store = MemoryStore()
with StopSignal() as stop, serving(Path(sys.argv[1])):
    print("serving", flush=True)
    sys.stdin.readline()
    stop.tell(store)
    try:
        store.check_stop()
    except Exception as error:
        print(type(error).__name__, flush=True)
    sys.stdin.readline()
"""


def test_who_serves_is_seen_from_its_lock_and_stops_on_a_signal(tmp_path: Path) -> None:
    assert server_pid(tmp_path) is None
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin and server.stdout
        assert server.stdout.readline() == "serving\n"
        assert server_pid(tmp_path) == server.pid
        # The signal comes before there is a coordination store to tell.
        os.kill(server.pid, signal.SIGUSR1)
        print(file=server.stdin, flush=True)
        assert server.stdout.readline() == "StopRequestedError\n"
        server.kill()
    assert server_pid(tmp_path) == 0
    (tmp_path / LOCK).unlink()
    assert server_pid(tmp_path) is None


def test_a_signal_reaches_the_store() -> None:
    store = MemoryStore()
    with StopSignal() as stop:
        stop.tell(store)
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(StopRequestedError):
            store.check_stop()
