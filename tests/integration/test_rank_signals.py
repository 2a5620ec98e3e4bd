"""Signals to the ranks of torchrun: all end in order or with one line, nothing stays, and the run goes on later."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.deployed import linux

from fednano.core.clock import pause, wall
from fednano.core.event_log import read_log
from fednano.core.events import CheckpointSaved
from fednano.report.audit import audit

pytestmark = [linux, pytest.mark.slow]

MARK = "FEDNANO_TEST_RANKS"
WITHIN_S, GONE_S = 300.0, 5.0
RUN = ["rounds=400", "volatility=none", "runtime=virtual", "clients=2", "checkpoint_every=1", "eval_every=400"]


class Ranks:
    """Two ranks that train under torchrun, and the processes that belong to them."""

    def __init__(self, options: list[str], cwd: Path) -> None:
        self.folder = cwd / "run"
        self._mark = f"{MARK}={cwd}".encode()
        self.output = (cwd / "output").open("w+")
        words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "fednano.run"]
        self.launcher = subprocess.Popen(
            [sys.executable, *words, *options],
            cwd=cwd,
            env={**os.environ, MARK: str(cwd), "OMP_NUM_THREADS": "1"},
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )

    def trained(self) -> None:
        """Wait until a checkpoint is on the event log."""
        begun, log = wall(), self.folder / "events.jsonl"
        while not (log.exists() and any(isinstance(event, CheckpointSaved) for event in read_log(log))):
            assert self.launcher.poll() is None and wall() - begun < WITHIN_S, self.said()
            pause(0.05)

    def ranks(self) -> dict[int, int]:
        """The processes of the ranks by number."""
        found = {}
        for process, environment in self._processes().items():
            for word in environment.split(b"\0"):
                if word.startswith(b"RANK="):
                    found[int(word[5:])] = process
        return found

    def ended(self) -> int:
        """Wait until torchrun and all others have ended; returns its exit code."""
        code = self.launcher.wait(WITHIN_S)
        ended = wall()
        while left := self._processes():
            assert wall() - ended < GONE_S, left
            pause(0.02)
        return code

    def said(self) -> str:
        self.output.seek(0)
        return self.output.read()

    def _processes(self) -> dict[int, bytes]:
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                environment = (process / "environ").read_bytes()
            except OSError:
                continue  # it has just ended, or is another user's
            if self._mark in environment:
                found[int(process.name)] = environment
        return found


@contextmanager
def training(options: list[str], cwd: Path) -> Iterator[Ranks]:
    ranks = Ranks([*options, "hydra.run.dir=run"], cwd)
    try:
        ranks.trained()
        yield ranks
    finally:
        ranks.launcher.kill()
        ranks.launcher.wait()
        for process in ranks._processes():
            os.kill(process, signal.SIGKILL)
        ranks.output.close()


def resumes(cwd: Path) -> None:
    """The run goes on after its newest checkpoint; it is then stopped again."""
    before = len([e for e in read_log(cwd / "run" / "events.jsonl") if isinstance(e, CheckpointSaved)])
    ranks = Ranks(["resume=run"], cwd)
    try:
        begun = wall()
        saved = 0
        while saved <= before:
            assert ranks.launcher.poll() is None and wall() - begun < WITHIN_S, ranks.said()
            pause(0.05)
            saved = len([e for e in read_log(cwd / "run" / "events.jsonl") if isinstance(e, CheckpointSaved)])
        ranks.launcher.send_signal(signal.SIGTERM)
        ranks.ended()
    finally:
        ranks.launcher.kill()
        ranks.output.close()
    assert audit(read_log(cwd / "run" / "events.jsonl")).violations == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_torchrun_ends_every_rank_in_order(tiny: list[str], tmp_path: Path, number: signal.Signals) -> None:
    options = [*(word for word in tiny if not word.startswith(("volatility.", "rounds="))), *RUN]
    with training(options, tmp_path) as ranks:
        ranks.launcher.send_signal(number)
        assert ranks.ended() != 0
        said = ranks.said()
        summary = (ranks.folder / "summary.json").read_text()
    assert '"status": "interrupted"' in summary, said
    ours = [line for line in said.splitlines() if "fednano/" in line and "File" in line]
    assert ours == [], said
    resumes(tmp_path)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_others_with_one_line(tiny: list[str], tmp_path: Path, victim: int) -> None:
    options = [*(word for word in tiny if not word.startswith(("volatility.", "rounds="))), *RUN]
    with training(options, tmp_path) as ranks:
        os.kill(ranks.ranks()[victim], signal.SIGKILL)
        assert ranks.ended() != 0
        said = ranks.said()
    assert len([line for line in said.splitlines() if line.startswith("fednano: another rank ended")]) <= 1, said
    assert not [line for line in said.splitlines() if "fednano/" in line and "File" in line], said
    resumes(tmp_path)
