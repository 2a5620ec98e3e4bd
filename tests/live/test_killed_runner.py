"""A runner that is killed leaves no process behind, at whatever moment it is killed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.deployed import linux

from fednano.core.clock import pause, wall
from fednano.process import tree

GONE_S, WITHIN_S = 5.0, 300.0
MARK = "FEDNANO_TEST_RUNNER"


class Runner:
    """A run in a process of its own, and all that it starts, wherever that is in the tree of processes."""

    def __init__(self, folder: Path, overrides: list[str]) -> None:
        self.folder = folder
        self._mark = f"{MARK}={folder}"
        self._seen: set[int] = set()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fednano.run", *overrides, "rounds=2000", f"hydra.run.dir={folder}/run"],
            env={**os.environ, MARK: str(folder), "OMP_NUM_THREADS": "1"},
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill_once(self, there: Callable[["Runner"], object]) -> None:
        """SIGKILL to the runner as soon as something is there."""
        begun = wall()
        while not there(self):
            assert self.process.poll() is None and wall() - begun < WITHIN_S
            pause(0.02)
        self._seen.update(tree.descendants(self.process.pid))
        self.process.kill()
        killed = wall()
        self.process.wait()
        while left := self.left():
            assert wall() - killed < GONE_S, left
            pause(0.02)

    def started(self) -> dict[int, str]:
        """The command lines of the processes that descend from the runner."""
        return {pid: line for pid in tree.descendants(self.process.pid) if (line := _line(pid)) is not None}

    def left(self) -> dict[int, str]:
        """The command lines of the runner's processes: those seen before, and those whose environment says so."""
        marked = {int(path.name) for path in Path("/proc").glob("[0-9]*") if self._mark.encode() in _environment(path)}
        return {pid: line for pid in self._seen | marked if (line := _line(pid)) is not None}

    def merged(self) -> bool:
        """Whether a round was merged."""
        log = self.folder / "run" / "events.jsonl"
        return log.exists() and b"RoundMerged" in log.read_bytes()


def _environment(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""


def _line(pid: int) -> str | None:
    """The command line of a process; None once it has ended."""
    process = Path(f"/proc/{pid}")
    try:
        if process.joinpath("stat").read_text().rpartition(")")[2].split()[0] in "ZX":
            return None
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return None


def something(runner: Runner) -> bool:
    return bool(runner.started())


def running(*words: str, times: int = 1) -> Callable[[Runner], bool]:
    """Whether so many processes run whose command lines have one of these words."""
    return lambda runner: sum(any(word in line for word in words) for line in runner.started().values()) >= times


@linux
@pytest.mark.parametrize(
    ("overrides", "there"),
    [
        (["hardware.workers=2"], running("spawn_main", times=2)),
        (["hardware.workers=2"], Runner.merged),
        pytest.param(["runtime=deployment"], something, marks=pytest.mark.slow),
        pytest.param(["runtime=deployment"], running("fednano.node.trainer"), marks=pytest.mark.slow),
        (["runtime=deployment"], running("flwr-serverapp")),
        pytest.param(["runtime=deployment"], Runner.merged, marks=pytest.mark.slow),
        pytest.param(["runtime=simulation"], something, marks=pytest.mark.slow),
        pytest.param(["runtime=simulation"], running("raylet"), marks=pytest.mark.slow),
        pytest.param(["runtime=simulation"], Runner.merged, marks=pytest.mark.slow),
    ],
)
def test_a_killed_runner_leaves_no_process(
    steady: list[str], tmp_path: Path, overrides: list[str], there: Callable[[Runner], object]
) -> None:
    runner = Runner(tmp_path, [*steady, *overrides])
    try:
        runner.kill_once(there)
    finally:
        runner.process.kill()
        runner.process.wait()
