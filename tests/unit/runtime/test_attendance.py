"""Which nodes of a deployment run: dummy processes, wishes that a test makes, and what reaches the log."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.awaiting import until

from fednano.coordination.embedded import EmbeddedRedis
from fednano.coordination.redis_link import Link
from fednano.core.events import ChaosEnacted, Event, Provisioned, SignalLost
from fednano.process import tree
from fednano.process.child import Child
from fednano.runtime.deployment.inbox import Inbox
from fednano.runtime.deployment.nodes.attendance import Chaotic, Steady, store_value
from fednano.runtime.deployment.nodes.attendance import Provisioned as ProvisionedNodes
from fednano.runtime.deployment.nodes.chaos import Chaos
from fednano.runtime.deployment.nodes.local import LocalNodes, redis_server, rerouted
from fednano.runtime.deployment.nodes.polling import SignalError
from fednano.runtime.deployment.nodes.provision import Patience, Provisioning, Subprocess
from fednano.runtime.deployment.nodes.proxy import Proxy
from fednano.volatility.availability import Availability, Window
from fednano.volatility.membership import Membership
from fednano.volatility.network import Network

SOON_S = 20.0
GRACE_S = 10.0
# A node: a child in a session of its own, and an end that takes a SIGTERM.
CHILD = "import signal; print('there', flush=True); signal.pause()"
NODE = (
    "import signal, subprocess, sys\n"
    f"child = subprocess.Popen([sys.executable, '-c', {CHILD!r}], start_new_session=True)\n"
    "def end(*_):\n"
    "    child.terminate()\n"
    "    child.wait()\n"
    "    print('left', flush=True)\n"
    "    sys.exit(0)\n"
    "signal.signal(signal.SIGTERM, end)\n"
    "while True:\n"
    "    signal.pause()\n"
)


class House:
    """A local node with its log, and what it has said so far."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "a.log"
        self.child = Child("a", [sys.executable, "-c", NODE], log=self.log, environment={}, grace_s=GRACE_S)
        self.nodes = LocalNodes({"a": self.child}, {})

    def says(self, *words: str) -> None:
        """Wait until the node has said just these."""
        until(lambda: self.log.exists() and len(self.log.read_text().split()) >= len(words))
        assert self.log.read_text().split() == list(words)

    def family(self) -> list[int]:
        assert self.child.guard
        return tree.descendants(self.child.guard)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.nodes.close()


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


linux = pytest.mark.skipif(not tree.PROC.joinpath("self/stat").exists(), reason="reads states from /proc")


def test_a_node_is_started_leaves_when_asked_and_is_started_again(house: House) -> None:
    assert not house.nodes.alive("a")
    house.nodes.terminate("a")  # there is none yet
    house.nodes.start("a")
    house.says("there")
    assert house.nodes.alive("a")
    house.nodes.terminate("a")
    house.says("there", "left")
    until(lambda: not house.nodes.alive("a"))
    assert house.child.ended == 0
    house.nodes.start("a")
    house.says("there", "left", "there")


def test_a_node_that_is_killed_has_no_time_to_leave(house: House) -> None:
    house.nodes.start("a")
    house.says("there")
    family = house.family()
    house.nodes.kill("a")
    until(lambda: house.child.ended is not None)
    assert house.child.ended == -signal.SIGKILL
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))
    house.says("there")


def test_a_node_that_has_not_left_in_time_makes_room_for_the_next(house: House) -> None:
    house.nodes.start("a")
    house.says("there")
    before = house.family()
    house.nodes.start("a")
    house.says("there", "there")
    assert not set(before) & set(house.family())


@linux
def test_a_node_that_is_stopped_goes_on_where_it_was(house: House) -> None:
    house.nodes.start("a")
    house.says("there")
    family = house.family()
    house.nodes.pause("a")
    until(lambda: all(map(stopped, family)))
    assert house.nodes.alive("a") and len(family) == 2
    house.nodes.resume("a")
    until(lambda: not any(map(stopped, family)))
    house.nodes.terminate("a")
    house.says("there", "left")


@linux
def test_a_node_that_is_stopped_ends_with_its_starter(house: House) -> None:
    house.nodes.start("a")
    house.says("there")
    family = house.family()
    house.nodes.pause("a")
    until(lambda: all(map(stopped, family)))
    house.child.ask()  # what the guard sees when its starter is killed
    house.says("there", "left")
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))


@linux
def test_a_node_that_is_stopped_is_not_waited_for_at_the_end(house: House) -> None:
    house.nodes.start("a")
    house.says("there")
    house.nodes.pause("a")
    house.nodes.close()
    assert house.child.ended is not None
    house.says("there")


class Ticks(LocalNodes):
    """Nodes whose ticks are written down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        child = Child("a", [], log=None, environment={})
        monkeypatch.setattr(type(child), "guard", property(lambda _: 1 << 30))
        super().__init__({"a": child}, {})
        for act in ("freeze", "thaw"):
            monkeypatch.setattr(tree, act, lambda pid, act=act: self.done.append(act))


def test_a_node_that_is_slowed_runs_in_its_share_of_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Ticks(monkeypatch)
    nodes.slow("a", 0.25)
    for _ in range(8):
        nodes.tick()
    assert nodes.done == ["freeze", "freeze", "freeze", "thaw"] * 2
    nodes.slow("a", 1.0)
    nodes.tick()
    nodes.tick()
    assert nodes.done[8:] == ["thaw"]


def test_a_node_that_is_stopped_is_not_woken_by_a_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Ticks(monkeypatch)
    nodes.slow("a", 0.999)
    nodes.pause("a")
    for _ in range(3):
        nodes.tick()
    assert nodes.done == ["freeze"]


def test_steady_nodes_all_run_from_the_beginning(house: House) -> None:
    attendance = Steady(("a",), house.nodes)
    assert attendance.begin(0.0) and attendance.expects("a")
    attendance.tend(1.0)
    house.says("there")
    attendance.close()
    house.says("there", "left")


def test_chaos_comes_and_goes_with_the_windows(house: House) -> None:
    windows = [Window(0.0, 10.0, "crash"), Window(20.0, 30.0, "drain")]
    told: list[ChaosEnacted] = []
    chaos = Chaos(
        membership=Membership({"a": Availability(iter(windows))}),
        control=house.nodes,
        tell=told.append,
        speedup=10.0,
        seed=0,
        crashes={"kill": 1.0},
        submit_s=0.5,
    )
    attendance = Chaotic(chaos, ("a",), house.nodes)
    assert attendance.begin(0.0)
    house.says("there")
    attendance.tend(1.0)
    assert not attendance.expects("a")
    until(lambda: house.child.ended is not None)
    attendance.tend(2.0)
    assert attendance.expects("a")
    house.says("there", "there")
    attendance.tend(2.5)
    house.says("there", "there", "left")
    until(lambda: house.child.ended is not None)
    attendance.tend(3.0)
    assert [event.action for event in told] == ["start", "kill", "start", "drain"]


def test_a_run_whose_nodes_all_come_later_does_not_wait_for_a_round(house: House) -> None:
    chaos = Chaos(
        membership=Membership({"a": Availability(iter([Window(5.0, 10.0, "crash")]))}),
        control=house.nodes,
        tell=lambda event: None,
        speedup=1.0,
        seed=0,
        crashes={"kill": 1.0},
        submit_s=0.5,
    )
    assert not Chaotic(chaos, ("a",), house.nodes).begin(0.0)


class Wishes:
    """A `Watch` that says what it is told to."""

    def __init__(self) -> None:
        self.up = True
        self.gone: list[tuple[tuple[str, ...], str]] = []

    def wanted(self, client: str, t: float) -> bool:
        return self.up

    def lost(self) -> list[tuple[tuple[str, ...], str]]:
        gone, self.gone = self.gone, []
        return gone

    def close(self) -> None:
        self.up = False


def test_a_provisioner_starts_and_ends_nodes_as_a_signal_says(house: House) -> None:
    told: list[Event] = []
    wishes = Wishes()
    actor = Subprocess().actor(("a",), house.nodes)
    provisioning = Provisioning(actor, Patience(), ("a",), told.append, lambda: 0.0)
    attendance = ProvisionedNodes(provisioning, wishes, ("a",), house.nodes, told.append)
    assert attendance.begin(0.0)
    provisioning.settle()
    house.says("there")
    assert attendance.expects("a")
    wishes.up, wishes.gone = False, [(("a",), "no answer")]
    attendance.tend(1.0)
    assert not attendance.expects("a")
    provisioning.settle()
    house.says("there", "left")
    assert SignalLost(t=1.0, clients=("a",), cause="no answer") in told
    attendance.close()
    assert [event.action for event in told if isinstance(event, Provisioned)] == ["start", "stop"]


def test_a_provisioned_node_ends_with_the_run(house: House) -> None:
    provisioning = Provisioning(
        Subprocess().actor(("a",), house.nodes), Patience(), ("a",), lambda event: None, lambda: 0.0
    )
    attendance = ProvisionedNodes(provisioning, Wishes(), ("a",), house.nodes, lambda event: None)
    attendance.begin(0.0)
    provisioning.settle()
    house.says("there")
    attendance.close()
    house.says("there", "left")


def test_events_go_from_one_process_to_another_once(tmp_path: Path) -> None:
    path = tmp_path / "actions.jsonl"
    assert Inbox(path).take() == []
    events = [ChaosEnacted(t=float(i), client="a", action="cut", value=1.0) for i in range(3)]
    lost = SignalLost(t=1.0, clients=("a", "b"), cause="héé")
    for event in events[:2]:
        Inbox(path).put(event)
    assert Inbox(path).take() == events[:2]
    assert Inbox(path).take() == []
    Inbox(path).put(lost)
    with path.open("a") as file:
        file.write('{"event": "Chao')  # a writer that is not through
    assert Inbox(path).take() == [lost]
    with path.open("a") as file:
        file.write('sEnacted", "t": 2.0, "client": "a", "action": "cut", "value": 1.0}\n')
    assert Inbox(path).take() == events[2:]


@pytest.mark.parametrize(
    ("url", "server", "through"),
    [
        ("redis://:s3cret@127.0.0.1:7000/0", [("127.0.0.1", 7000)], "redis://:s3cret@127.0.0.1:9/0"),
        ("redis://host.example.org", [("host.example.org", 6379)], "redis://127.0.0.1:9"),
        ("rediss://host.example.org:1", [], None),
        ("unix:///tmp/redis.sock", [], None),
    ],
)
def test_a_link_leads_to_redis_where_it_can(url: str, server: list[tuple[str, int]], through: str | None) -> None:
    assert redis_server(url) == server
    assert rerouted(url, [9] if server else []) == (through or url)


def test_redis_is_cut_off_and_back_through_a_link_and_its_keys_are_read() -> None:
    with EmbeddedRedis() as server:
        link = Link(server.address, "r")
        link.transact([("SET", link.key("wanted:a"), "up", "EX", 60)])
        link.close()
        proxy = Proxy(
            targets=redis_server(server.address.url),
            network=Network(name="any", up_mbit_s=1e4, down_mbit_s=1e4, latency_s=0.0),
            index=0,
            seed=0,
        )
        there = type(server.address)(rerouted(server.address.url, proxy.ports))
        assert [store_value(there, "r", key) for key in ("wanted:a", "wanted:b")] == ["up", None]
        proxy.cut()
        with pytest.raises(SignalError, match="does not answer"):
            store_value(there, "r", "wanted:a")
        proxy.mend()
        assert store_value(there, "r", "wanted:a") == "up"
        proxy.close()
