"""A deployment whose disk becomes full or sick: one line says so, nothing stays, and the run goes on afterwards."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import sick, small_disk
from support.deployed import WITHIN_S, Deployed, linux

from fednano.core.failures import REMEDIES

Deploy = Callable[..., Deployed]
GONE_S = 5.0
NAMESPACE = ["unshare", "--map-root-user", "--mount"]


def can_mount(folder: Path) -> bool:
    """Whether a file system can be mounted here, in a namespace of its own."""
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(folder)]
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*NAMESPACE, *mount], capture_output=True, check=False).returncode == 0


def on_small_disk(what: str, folder: Path, *overrides: str) -> Any:
    """What became of a deployment that has its run folder or its TMPDIR on a small disk."""
    if not can_mount(folder):
        pytest.skip("no file system can be mounted here")
    here = Path(small_disk.__file__).parents[1]
    command = [*NAMESPACE, sys.executable, "-m", "support.small_disk", what, str(folder), *overrides]
    ran = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@linux
@pytest.mark.slow
def test_a_full_disk_fails_a_deployment_that_resumes_with_room_again(steady: list[str], tmp_path: Path) -> None:
    told = on_small_disk("run", tmp_path, *steady, "rounds=8")
    assert told["code"] == 1, told["said"]
    last = told["said"].splitlines()[-1]
    assert last.startswith("fednano: ") and last.endswith(
        "cannot be used (No space left on device); make room on its disk"
    )
    assert "Traceback" not in told["said"]
    assert told["left"] == [] and told["gone_after_s"] < GONE_S
    assert not [file for file in told["files"] if ".tmp" in file]
    if summary := told["summary"]:
        assert (summary["status"], f"fednano: {summary['error']}") == ("failed", last)
    assert told["resumed"] == [0, ""]
    after = told["after"]
    assert (after["status"], after["rounds"], after["error"]) == ("completed", 8, None)
    assert (after["audit"]["violations"], after["rows"]["lost"], after["rows"]["doubled"]) == (0, 0, 0)


@linux
@pytest.mark.slow
def test_a_deployment_does_without_room_in_tmpdir(steady: list[str], tmp_path: Path) -> None:
    """It fills up while the first runs, and is full when the second begins, which chooses another folder."""
    told = on_small_disk("temporary", tmp_path, *steady, "rounds=8")
    for run in told["runs"]:
        assert run["code"] == 0, run["said"]
        assert "Traceback" not in run["said"] and "died" not in run["said"]
        summary = run["summary"]
        assert (summary["status"], summary["rounds"], summary["audit"]["violations"]) == ("completed", 8, 0)
    assert told["files"] == ["ballast"]


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "number", "after"),
    [
        ("events.jsonl", errno.ENOSPC, 1),
        ("events.jsonl", errno.EIO, 1),
        ("checkpoints", errno.EROFS, 2),
        ("checkpoints", errno.EIO, 2),
    ],
    ids=lambda value: errno.errorcode.get(value, value) if isinstance(value, int) else value,
)
def test_a_sick_disk_fails_a_deployment_that_resumes(
    deploy: Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, number: int, after: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([*sick.__path__, os.environ.get("PYTHONPATH", "")]))
        patch.setenv("SICK", f"{place}:{number}:{after}")
        deployed = deploy("rounds=6", "checkpoint_every=1")
        assert deployed.process.wait(WITHIN_S) == 1, deployed.said()
    last = deployed.said().splitlines()[-1]
    assert last.startswith("fednano: ") and place in last, deployed.said()
    assert last.endswith(f"cannot be used ({os.strerror(number)}); {REMEDIES[number]}")
    assert "Traceback" not in deployed.said()
    deployed.clear()
    assert not list(deployed.folder.rglob("*.tmp"))
    summary = deployed.summary()
    assert (summary["status"], f"fednano: {summary['error']}") == ("failed", last)
    resume = [sys.executable, "-m", "fednano.run", f"resume={deployed.folder}"]
    again = subprocess.run(resume, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    summary = deployed.summary()
    assert (summary["status"], summary["rounds"], summary["error"]) == ("completed", 6, None)
    assert (summary["audit"]["violations"], summary["rows"]["lost"], summary["rows"]["doubled"]) == (0, 0, 0)
