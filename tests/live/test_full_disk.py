"""A deployment whose disk becomes full: one line says so, nothing stays, and the run goes on once there is room."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import small_disk
from support.deployed import linux

GONE_S = 5.0
NAMESPACE = ["unshare", "--map-root-user", "--mount"]


def can_mount(folder: Path) -> bool:
    """Whether a file system can be mounted here, in a namespace of its own."""
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(folder)]
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*NAMESPACE, *mount], capture_output=True, check=False).returncode == 0


@linux
@pytest.mark.slow
def test_a_full_disk_fails_a_deployment_that_resumes_with_room_again(steady: list[str], tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("no file system can be mounted here")
    here = Path(small_disk.__file__).parents[1]
    ran = subprocess.run(
        [*NAMESPACE, sys.executable, "-m", "support.small_disk", str(tmp_path), *steady, "rounds=8"],
        cwd=here, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
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
