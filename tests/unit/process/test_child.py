"""Processes that end with their runner."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fednano.process.child import Child

# Tells its process id through a pipe whose other end closes when it ends.
TALKS = "import os, sys, time; os.write(int(sys.argv[1]), str(os.getpid()).encode() + b'\\n'); {}"
STAYS = "[time.sleep(60) for _ in range(9)]"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + TALKS.format(STAYS)


def _child(code: str, log: Path, grace_s: float = 20.0) -> Child:
    return Child("worker", [sys.executable, "-c", code], log, dict(os.environ), grace_s)


def _wait(child: Child) -> int:
    """The exit code, once it has ended by itself."""
    assert child._process is not None
    return child._process.wait(20)


def test_how_a_child_ended_is_told_with_its_last_lines(tmp_path: Path) -> None:
    child = _child("print('first'); print('last'); raise SystemExit(3)", tmp_path / "log")
    assert child.ended is None
    child.start()
    assert _wait(child) == 3
    assert child.cause() == f"worker ended with exit code 3; its log is {tmp_path / 'log'}"
    assert child.tail() == "first\nlast"
    child.start()
    assert _wait(child) == 3
    assert child.tail() == "first\nlast\nfirst\nlast"
    child.stop()


def test_noise_is_left_out_of_the_last_lines(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("first\n" + "asked again\n" * 100 + "last\n")
    child = Child("worker", [], tmp_path / "log", {}, noise=["asked"])
    assert child.tail() == "first\nlast"


def test_a_child_that_is_killed_names_the_signal(tmp_path: Path) -> None:
    child = _child("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", tmp_path / "log")
    child.start()
    assert _wait(child) == -signal.SIGKILL
    assert "worker was ended by SIGKILL" in child.cause()


@pytest.mark.parametrize(("code", "grace_s"), [(TALKS.format(STAYS), 20.0), (STUBBORN, 0.2)])
def test_a_child_ends_when_it_is_stopped(tmp_path: Path, code: str, grace_s: float) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    path = f"os.open({str(fifo)!r}, os.O_WRONLY)"
    child = _child(code.replace("int(sys.argv[1])", path), tmp_path / "log", grace_s)
    child.start()
    with fifo.open() as told:
        pid = int(told.readline())
        os.kill(pid, 0)
        child.stop()
        assert told.read() == ""
    assert child.ended is not None
    child.stop()


RUNNER = """
import os, sys
from pathlib import Path
from fednano.process.child import Child
child = Child("worker", [sys.executable, "-c", sys.argv[1]], Path(sys.argv[2]), dict(os.environ), 20.0)
child.start()
print("started", flush=True)
sys.stdin.read()
"""


def test_a_child_ends_with_a_runner_that_is_killed(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    code = TALKS.format(STAYS).replace("int(sys.argv[1])", f"os.open({str(fifo)!r}, os.O_WRONLY)")
    with (
        subprocess.Popen(
            [sys.executable, "-c", RUNNER, code, str(tmp_path / "log")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as runner,
        fifo.open() as told,
    ):
        assert int(told.readline()) > 0
        runner.kill()
        assert told.read() == ""  # the child has ended: it alone held the other end
