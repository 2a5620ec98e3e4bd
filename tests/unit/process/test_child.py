"""Children that end with the process that started them, and the guard that sees to it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.awaiting import until

from fednano.process import guard, tree
from fednano.process.child import GUARD, Child

SOON_S = 20.0
# Tells what it is given through a pipe whose other end closes when it ends.
TELLS = (
    "import os, signal, sys; told = os.open({fifo!r}, os.O_WRONLY); "
    "tell = lambda word: os.write(told, f'{{word}}\\n'.encode()); "
)
PAUSES = "[signal.pause() for _ in range(99)]"
STAYS = "tell(os.getpid()); " + PAUSES
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN); " + STAYS
# What it starts holds the pipe as well, and stays in its group.
FAMILY = (
    "import subprocess; "
    "kin = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'], pass_fds=[told]); tell(kin.pid); "
)


class Family:
    """Children, and what they tell."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.fifo = folder / "fifo"
        self.children: list[Child] = []
        os.mkfifo(self.fifo)

    def code(self, code: str) -> str:
        return TELLS.format(fifo=str(self.fifo)) + code

    def child(self, code: str, **given: Any) -> Child:
        given = {"log": self.log, "environment": os.environ, "grace_s": SOON_S, **given}
        self.children.append(Child("worker", [sys.executable, "-c", code], **given))
        return self.children[-1]


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    made = Family(tmp_path)
    yield made
    for child in made.children:
        child.stop()


def test_how_a_child_ended_is_told_with_its_last_lines(family: Family) -> None:
    child = family.child("print('first'); print('last'); raise SystemExit(3)")
    assert child.ended is None and child.pid is None
    child.start()
    assert child.wait(SOON_S) == child.ended == 3
    assert child.cause() == f"worker ended with exit code 3; its log is {family.log}"
    assert child.tail() == "first\nlast"
    child.start()
    assert child.wait(SOON_S) == 3
    assert child.tail() == "first\nlast\nfirst\nlast"


def test_noise_is_left_out_of_the_last_lines(family: Family) -> None:
    family.log.write_text("first\n" + "asked again\n" * 100 + "last\n")
    assert family.child("", noise=["asked"]).tail() == "first\nlast"


def test_a_child_is_out_of_reach_of_the_terminal(family: Family) -> None:
    child = family.child("import signal; signal.pause()")
    child.start()
    assert child.pid
    assert os.getsid(child.pid) == os.getpgid(child.pid) == child.guard


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGPIPE, signal.SIGALRM])
def test_a_child_that_is_killed_names_the_signal(family: Family, number: signal.Signals) -> None:
    child = Child("worker", ["sh", "-c", f"kill -{int(number)} $$"], log=family.log, environment=os.environ)
    child.start()
    assert child.wait(SOON_S) == -number
    assert f"worker was killed by {number.name}" in child.cause()


def test_a_command_that_is_not_there_says_so(family: Family) -> None:
    child = Child("worker", [family.fifo.with_name("none")], log=family.log, environment={})
    child.start()
    assert child.wait(SOON_S) == 127
    assert child.pid is None
    assert child.tail() == f"{family.fifo.with_name('none')} cannot be started: No such file or directory"


@pytest.mark.parametrize(("code", "grace_s"), [(STAYS, SOON_S), (STUBBORN, 0.2), (STAYS, 0.0)])
def test_a_child_ends_when_it_is_stopped(family: Family, code: str, grace_s: float) -> None:
    child = family.child(family.code(code), grace_s=grace_s)
    child.start()
    with family.fifo.open() as told:
        assert int(told.readline()) == child.pid
        assert child.stop() == (grace_s == SOON_S)
        assert told.read() == ""
    assert child.ended == (-signal.SIGTERM if grace_s == SOON_S else -signal.SIGKILL)
    assert child.stop() == (grace_s == SOON_S), "it has ended, and is not asked again"


def test_who_was_asked_ends_before_it_is_waited_for(family: Family) -> None:
    child = family.child("import signal; signal.pause()")
    child.start()
    child.ask()
    child.ask()
    assert child.wait(SOON_S) == -signal.SIGTERM
    child.ask()


def test_signals_to_the_guard_reach_the_command(family: Family) -> None:
    child = family.child(
        family.code(
            "numbers = [signal.SIGUSR1, signal.SIGINT, signal.SIGTERM]\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, numbers)\n"
            "tell('there')\n"
            "for _ in numbers: tell(signal.sigwait(numbers).name)\n"
            "raise SystemExit(7)"
        )
    )
    child.start()
    with family.fifo.open() as told:
        assert told.readline() == "there\n"
        for name in ("SIGUSR1", "SIGINT", "SIGTERM"):
            assert child.guard
            os.kill(child.guard, signal.Signals[name])
            assert told.readline() == f"{name}\n"
    assert child.wait(SOON_S) == 7


def test_a_signal_that_comes_before_the_command_is_passed_on_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[int, Callable[[int, object], None]] = {}
    sent: list[tuple[int, int]] = []

    def spawned(words: list[str], fed: bytes) -> int:
        taken[signal.SIGTERM](signal.SIGTERM, None)
        return 4321

    monkeypatch.setattr(signal, "signal", taken.__setitem__)
    monkeypatch.setattr(guard, "_spawned", spawned)
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    guard.GuardedCommand(["command"], b"")
    assert sent == [(4321, signal.SIGTERM)]


@pytest.mark.parametrize("end", ["raise SystemExit(5)", "signal.pause()"])
def test_what_a_command_leaves_in_its_group_ends_with_it(family: Family, end: str) -> None:
    child = family.child(family.code(FAMILY + end))
    child.start()
    with family.fifo.open() as told:
        assert int(told.readline()) > 0
        if "pause" in end:
            child.stop()
        assert told.read() == ""  # nobody is left who holds the other end
    assert child.wait(SOON_S) == (-signal.SIGTERM if "pause" in end else 5)


def test_a_command_whose_guard_is_killed_ends_when_it_is_stopped(family: Family) -> None:
    child = family.child(family.code(FAMILY + PAUSES))
    child.start()
    with family.fifo.open() as told:
        assert int(told.readline()) > 0
        assert child.guard
        os.kill(child.guard, signal.SIGKILL)
        assert child.wait(SOON_S) == -signal.SIGKILL
        child.stop()
        assert told.read() == ""


def test_a_command_that_is_stopped_by_a_signal_is_woken_to_end(family: Family) -> None:
    child = family.child(
        family.code("signal.signal(signal.SIGTERM, lambda *_: sys.exit(4)); tell('there'); signal.pause()")
    )
    child.start()
    with family.fifo.open() as told:
        assert told.readline() == "there\n"
        assert child.guard
        assert tree.freeze(child.guard) == [child.pid]
        assert child.ended is None
        assert child.stop()
    assert child.ended == 4


def test_a_child_reads_what_it_is_fed_and_no_more(family: Family) -> None:
    fed = b"secret\n" * 500
    child = family.child("import sys; print(len(sys.stdin.read())); sys.stdin.read()", fed=fed)
    child.start()
    assert child.wait(SOON_S) == 0
    assert child.tail() == str(len(fed))
    child.start()
    assert child.wait(SOON_S) == 0
    assert child.tail() == f"{len(fed)}\n{len(fed)}"


def test_a_child_that_reads_nothing_does_not_hold_up_who_feeds_it(family: Family) -> None:
    child = family.child("import signal; signal.pause()", fed=b"x" * guard.MOST_FED)
    child.start()
    assert child.pid
    assert child.stop()


def test_a_child_without_a_log_writes_where_its_starter_does(capfd: pytest.CaptureFixture[str], family: Family) -> None:
    child = family.child("print('here')", log=None)
    child.start()
    assert child.wait(SOON_S) == 0
    assert (child.tail(), child.cause()) == ("", "worker ended with exit code 0")
    assert capfd.readouterr().out == "here\n"


RUNNER = """
import os, sys
from pathlib import Path
from fednano.process.child import Child
log, orphan_s, code = sys.argv[1:]
command = [sys.executable, "-c", code]
child = Child("worker", command, log=Path(log), environment=os.environ, grace_s=600.0, orphan_s=float(orphan_s))
child.start()
print(child.guard, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("code", "orphan_s"), [(STAYS, SOON_S), (STUBBORN, 0.2), (FAMILY + PAUSES, SOON_S)])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_child_ends_with_a_runner_that_is_killed(family: Family, code: str, orphan_s: float, frozen: bool) -> None:
    words = [sys.executable, "-c", RUNNER, str(family.log), str(orphan_s), family.code(code)]
    with (
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as runner,
        family.fifo.open() as told,
    ):
        assert int(told.readline()) > 0
        assert runner.stdout
        if frozen:
            assert tree.freeze(int(runner.stdout.readline()))
        runner.kill()
        assert told.read() == ""  # the child has ended: it and its kin alone held the other end


def test_a_guard_imports_next_to_nothing(family: Family) -> None:
    words = [*GUARD[:-1], "-X", "importtime", GUARD[-1]]
    loaded = subprocess.run(words, capture_output=True, text=True, check=False, process_group=0, input="").stderr
    names = {line.rpartition("|")[2].strip() for line in loaded.splitlines()}
    assert {"signal", "select"} <= names
    assert not names & {"site", "subprocess", "threading", "pathlib", "typing", "re", "fednano"}


def test_a_guard_kills_no_group_but_its_own() -> None:
    refused = subprocess.run([*GUARD, "1", "1", "0", "true"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "must lead a process group of its own" in refused.stderr


def test_no_process_is_left_of_a_runner_killed_before_it_fed_its_child() -> None:
    starved = subprocess.Popen([*GUARD, "1", "1", "9", "true"], stdin=subprocess.DEVNULL, process_group=0)
    assert starved.wait(SOON_S) == -signal.SIGKILL
    until(lambda: tree.descendants(starved.pid) == [])
