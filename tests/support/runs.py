"""Runs that are stopped, killed and compared."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fednano.coordination.memory import MemoryStore
from fednano.core.event_log import read_log
from fednano.report.audit import audit


class StopsAfter(MemoryStore):
    """Asks for a stop after so many checks, as a signal between two inner steps would."""

    def __init__(self, checks: int) -> None:
        super().__init__()
        self._left = checks

    def check_stop(self) -> None:
        self._left -= 1
        if self._left < 0:
            self.request_stop()
        super().check_stop()


SAME = ("weights_sha256", "tape_sha256", "val_bpb", "val_bpb_initial", "train_loss", "tokens", "inner_steps", "rounds",
        "bytes", "rows", "virtual_s", "goodput")  # fmt: skip


def assert_same(resumed: dict[str, Any], whole: dict[str, Any]) -> None:
    assert {key: resumed[key] for key in SAME} == {key: whole[key] for key in SAME}
    lines = [
        [{k: v for k, v in json.loads(line).items() if k[:5] != "wall_"} for line in path.read_text().splitlines()]
        for path in (resumed["folder"] / "metrics.jsonl", whole["folder"] / "metrics.jsonl")
    ]
    assert lines[0] == lines[1]
    assert audit(read_log(resumed["folder"] / "events.jsonl")).violations == []


def kill_at(cwd: Path, arguments: list[str], event: Callable[[Any], bool]) -> None:
    """Start a run and SIGKILL it as soon as such an event is on its event log."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    event_log = cwd / "killed" / "events.jsonl"
    while process.poll() is None:
        time.sleep(0.01)
        whole = event_log.read_text().rpartition("\n")[0] if event_log.exists() else ""
        (cwd / "seen.jsonl").write_text(whole + "\n" if whole else "")
        if any(event(seen) for seen in read_log(cwd / "seen.jsonl")):
            os.kill(process.pid, signal.SIGKILL)
            break
    (cwd / "seen.jsonl").unlink()
    assert process.wait() == -signal.SIGKILL


SLOW = """
import sys, time
from fednano.training.local import LocalTrainer
step = LocalTrainer._step
LocalTrainer._step = lambda *a: (time.sleep(0.02), step(*a))[1]
from fednano.run import main
sys.exit(main())
"""


def summary_of(folder: Path) -> dict[str, Any]:
    return {**json.loads((folder / "summary.json").read_text()), "folder": folder}
