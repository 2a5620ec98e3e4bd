"""Live nodes come and go as the profile says: schedules by hand, a recording control, and real signals."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path

import pytest
from support.awaiting import until

from fednano.core.events import ChaosEnacted
from fednano.process import tree
from fednano.runtime.deployment.nodes.chaos import Chaos, check_crashes, drawn, schedule
from fednano.volatility.availability import Availability, Window
from fednano.volatility.membership import Membership
from fednano.volatility.profiles import Markov
from fednano.volatility.speed import Speed

KILLS = {"kill": 1.0}
SOON_S = 20.0  # more than anything here takes


def members(speed: Speed | None = None, **windows: list[Window]) -> Membership:
    speeds = dict.fromkeys(windows, speed) if speed else None
    return Membership({client: Availability(iter(w)) for client, w in windows.items()}, speeds)


def planned(membership: Membership, until: float = 1e4, crashes: dict[str, float] = KILLS) -> list[tuple[float, str]]:
    return [(a.at, f"{a.kind} {a.client}") for a in schedule(membership, until, 0, crashes, submit_s=5.0)]


def test_a_drain_is_asked_for_before_the_end_and_what_is_left_is_taken() -> None:
    membership = members(a=[Window(10.0, 100.0, "drain"), Window(200.0, 300.0, "drain", notice_s=2.0)])
    assert planned(membership) == [
        (10.0, "start a"),
        (95.0, "drain a"),
        (100.0, "reclaim a"),
        (200.0, "start a"),
        (298.0, "drain a"),
        (300.0, "reclaim a"),
    ]


def test_a_window_too_short_to_submit_is_left_as_it_begins() -> None:
    assert planned(members(a=[Window(1.0, 3.0, "drain")])) == [(1.0, "start a"), (1.0, "drain a"), (3.0, "reclaim a")]


@pytest.mark.parametrize(("crash", "returns"), [("kill", "start"), ("pause", "resume"), ("cut", "mend")])
def test_a_crash_is_undone_as_it_was_done(crash: str, returns: str) -> None:
    membership = members(a=[Window(0.0, 10.0, "crash"), Window(20.0, 30.0, "drain"), Window(40.0, inf, "drain")])
    assert planned(membership, crashes={crash: 1.0}) == [
        (0.0, "start a"),
        (10.0, f"{crash} a"),
        (20.0, f"{returns} a"),
        (25.0, "drain a"),
        (30.0, "reclaim a"),
        (40.0, "start a"),
    ]


def test_windows_that_touch_end_before_they_begin() -> None:
    assert planned(members(a=[Window(0.0, 10.0, "crash"), Window(10.0, inf, "drain")])) == [
        (0.0, "start a"),
        (10.0, "kill a"),
        (10.0, "start a"),
    ]


def test_a_longer_schedule_begins_with_the_shorter_one() -> None:
    membership = Membership.draw(Markov(exit="mixed", mean_up_s=20.0, mean_down_s=10.0), ("a", "b", "c"), seed=3)
    shares = {"kill": 1.0, "pause": 1.0, "cut": 1.0}
    long = schedule(membership, 2000.0, 3, shares, 5.0)
    short = schedule(membership, 700.0, 3, shares, 5.0)
    assert short == [action for action in long if action.at < 700.0]
    assert len(short) > 50
    assert [a.at for a in long] == sorted(a.at for a in long)


def test_kinds_of_crashes_are_drawn_by_their_shares_and_by_name() -> None:
    shares = {"kill": 1.0, "pause": 3.0, "cut": 0.0}
    kinds = [drawn(shares, 0, "a", window) for window in range(2000)]
    assert kinds == [drawn(shares, 0, "a", window) for window in range(2000)]
    assert kinds != [drawn(shares, 1, "a", window) for window in range(2000)]
    counts = Counter(kinds)
    assert set(counts) == {"kill", "pause"} and abs(counts["kill"] - 500) < 80


def test_speeds_are_shares_of_what_a_node_can() -> None:
    speed = Speed(iter([(10.0, 0.5), (20.0, 2.0), (30.0, 1.5), (inf, 0.25)]))
    actions = schedule(members(speed, a=[Window(0.0, inf, "drain")]), 100.0, 0, KILLS, 5.0)
    assert [(a.at, a.kind, a.value) for a in actions] == [
        (0.0, "start", 1.0),
        (0.0, "slow", 0.5),
        (10.0, "slow", 1.0),
        (30.0, "slow", 0.25),
    ]


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"burn": 1.0}, "must name kinds of crashes, got burn"),
        ({"kill": -1.0}, "use 0 or more"),
        ({"cut": 0.0}, "must have a share above 0"),
    ],
)
def test_shares_are_checked(shares: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_crashes(shares)


class Recorder:
    """A NodeControl that writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.leaves_in_time = False
        self._alive: set[str] = set()

    def start(self, client: str) -> None:
        self.calls.append(f"start {client}")
        self._alive.add(client)

    def terminate(self, client: str) -> None:
        self.calls.append(f"terminate {client}")
        if self.leaves_in_time:
            self.end(client)

    def kill(self, client: str) -> None:
        self.calls.append(f"kill {client}")
        self._alive.discard(client)

    def pause(self, client: str) -> None:
        self.calls.append(f"pause {client}")

    def resume(self, client: str) -> None:
        self.calls.append(f"resume {client}")

    def cut(self, client: str) -> None:
        self.calls.append(f"cut {client}")

    def mend(self, client: str) -> None:
        self.calls.append(f"mend {client}")

    def slow(self, client: str, share: float) -> None:
        self.calls.append(f"slow {client} {share}")

    def alive(self, client: str) -> bool:
        return client in self._alive

    def end(self, client: str) -> None:
        """The node ends by itself."""
        self._alive.discard(client)


def chaos(
    membership: Membership, speedup: float = 10.0, crashes: dict[str, float] = KILLS
) -> tuple[Chaos, Recorder, list[ChaosEnacted]]:
    control, told = Recorder(), list[ChaosEnacted]()
    made = Chaos(
        membership=membership,
        control=control,
        tell=told.append,
        speedup=speedup,
        seed=0,
        crashes=crashes,
        submit_s=0.5,
    )
    return made, control, told


def test_actions_are_done_when_they_are_due_in_sped_up_time() -> None:
    made, control, told = chaos(members(a=[Window(0.0, 100.0, "drain"), Window(200.0, 300.0, "crash")]))
    steps = []
    for t in (0.0, 9.4, 9.5, 10.0, 19.9, 20.0, 30.0):
        before = len(control.calls)
        made.enact(t)
        steps.append((t, control.calls[before:], made.expects("a")))
    assert steps == [
        (0.0, ["start a"], True),
        (9.4, [], True),
        (9.5, ["terminate a"], False),
        (10.0, ["kill a"], False),
        (19.9, [], False),
        (20.0, ["start a"], True),
        (30.0, ["kill a"], False),
    ]
    assert [(e.t, e.action) for e in told] == [
        (0.0, "start"),
        (9.5, "drain"),
        (10.0, "reclaim"),
        (20.0, "start"),
        (30.0, "kill"),
    ]


def test_who_has_left_in_time_is_not_killed() -> None:
    made, control, told = chaos(members(a=[Window(0.0, 100.0, "drain")]))
    control.leaves_in_time = True
    made.enact(1e4)
    assert control.calls == ["start a", "terminate a"]
    assert [e.action for e in told] == ["start", "drain"]


def test_who_is_stopped_is_still_expected() -> None:
    made, control, _ = chaos(
        members(a=[Window(0.0, 10.0, "crash"), Window(20.0, inf, "drain")]), crashes={"pause": 1.0}
    )
    made.enact(1.5)
    assert control.calls == ["start a", "pause a"] and made.expects("a")
    made.enact(2.0)
    assert control.calls[2:] == ["resume a"]


@pytest.mark.parametrize("ends", [False, True])
def test_who_is_cut_off_may_end_and_is_there_again_with_its_link(ends: bool) -> None:
    made, control, _ = chaos(members(a=[Window(0.0, 10.0, "crash"), Window(20.0, inf, "drain")]), crashes={"cut": 1.0})
    made.enact(1.5)
    assert control.calls == ["start a", "cut a"] and not made.expects("a")
    if ends:
        control.end("a")
    made.enact(2.0)
    assert control.calls[2:] == (["mend a", "start a"] if ends else ["mend a"]) and made.expects("a")


def test_the_profile_goes_on_however_long_the_run_takes() -> None:
    membership = Membership.draw(Markov(exit="crash", mean_up_s=20.0, mean_down_s=10.0), ("a", "b"), seed=1)
    made, control, _ = chaos(membership, speedup=1.0)
    for t in range(0, 20_000, 7):
        made.enact(float(t))
    expected = schedule(membership, 19_999.0, 0, KILLS, 5.0)
    assert control.calls == [f"{action.kind} {action.client}" for action in expected]


def test_a_run_that_is_resumed_begins_with_who_is_up_then() -> None:
    made, control, told = chaos(
        members(
            a=[Window(0.0, 10.0, "crash"), Window(20.0, 900.0, "crash")],
            b=[Window(0.0, 10.0, "crash"), Window(400.0, 900.0, "drain")],
        ),
        crashes={"pause": 1.0},
    )
    made.skip(30.0)
    assert control.calls == ["start a"] and told[0].t == 30.0
    made.enact(40.0)
    assert control.calls == ["start a", "resume b", "start b"]


@pytest.fixture
def family() -> Iterator[subprocess.Popen[bytes]]:
    """A process whose child is in a session of its own; both tell that they are there, and all end with the test."""
    child = "import signal; print('child', flush=True); signal.pause()"
    parent = (
        "import subprocess, sys, signal\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)\n"
        "signal.pause()\n"
    )
    starter = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {parent!r}]).returncode)"
    process = subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"child\n"
    yield process
    with suppress(ProcessLookupError):
        tree.kill(process.pid)
        process.kill()
    process.wait()
    process.stdout.close()


def states(pids: list[int]) -> set[str]:
    return {Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pids}


@pytest.mark.skipif(not tree.PROC.joinpath("self/stat").exists(), reason="reads states from /proc")
def test_all_processes_of_a_node_are_stopped_and_go_on(family: subprocess.Popen[bytes]) -> None:
    assert len(tree.descendants(family.pid)) == 2
    frozen = tree.freeze(family.pid)
    until(lambda: states(frozen) == {"T"})
    until(lambda: states([family.pid]) == {"S"})  # it may be seen at work
    tree.thaw(family.pid)
    until(lambda: states(frozen) == {"S"})


def test_all_processes_of_a_node_are_killed_and_its_guard_sees_it(family: subprocess.Popen[bytes]) -> None:
    tree.kill(family.pid)
    assert family.wait(SOON_S) == 256 - 9  # what the guard makes of a child that was killed
    assert family.stdout
    assert family.stdout.read() == b""  # the pipe's other ends are closed with all who held them


def test_a_signal_to_who_is_gone_does_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    tree.send(process.pid, 15)
    assert tree.descendants(process.pid) == []
