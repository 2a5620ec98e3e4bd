"""A deployment with something on a small disk that becomes full: run in a mount namespace of its own.

    unshare --map-root-user --mount python -m support.small_disk run|temporary FOLDER OVERRIDES…

On the disk is the run folder, or TMPDIR.

Prints what came of it as JSON: how the run ended, what it left, and how it went on once there was room again.
"""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from support.deployed import Deployed

from fednano.core.clock import pause, wall
from fednano.core.events import CheckpointSaved

SIZE = "64m"


def fill(path: Path) -> None:
    """Leave no room on a disk."""
    with path.open("wb", buffering=0) as ballast:
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while ballast.write(bytes(size)):
                    pass


def _mounted(folder: Path) -> Path:
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)], check=True)
    return disk


def temporary(folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Fill the disk of TMPDIR after the first checkpoint of a deployment, and start another on it."""
    disk = _mounted(folder)
    found = []
    for name in ("filled", "full"):
        deployed = Deployed([*overrides, "checkpoint_every=1"], folder / name, str(disk), folder / f"{name}.output")
        if name == "filled":
            deployed.until(lambda running=deployed: running.of(CheckpointSaved))
            fill(disk / "ballast")
        code = deployed.process.wait(300)
        found.append({"code": code, "said": deployed.said(), "summary": deployed.summary()})
        deployed.clear()
    return {"runs": found, "files": [str(path.relative_to(disk)) for path in disk.rglob("*")]}


def played(folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Fill the disk after the first checkpoint of a deployment, and resume the run with room again."""
    disk = _mounted(folder)
    with tempfile.TemporaryDirectory(prefix="fn") as temporary:
        deployed = Deployed([*overrides, "checkpoint_every=1"], disk / "run", temporary, folder / "output")
        deployed.until(lambda: deployed.of(CheckpointSaved))
        fill(disk / "ballast")
        filled = wall()
        code = deployed.process.wait(300)
        ended = wall()
        while deployed.left() and wall() - ended < 30:
            pause(0.05)
        cleared = wall()
        summary = deployed.folder / "summary.json"
        told = {
            "code": code,
            "said": deployed.said(),
            "ends_after_s": ended - filled,
            "gone_after_s": cleared - ended,
            "left": deployed.left(),
            "summary": json.loads(summary.read_text()) if summary.exists() and summary.stat().st_size else None,
            "files": sorted(str(path.relative_to(disk)) for path in disk.rglob("*")),
        }
        (disk / "ballast").unlink()
        again = subprocess.run(
            [sys.executable, "-m", "fednano.run", f"resume={deployed.folder}"],
            env={**os.environ, "TMPDIR": temporary},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        return {**told, "resumed": [again.returncode, again.stderr], "after": deployed.summary()}


if __name__ == "__main__":
    play = {"run": played, "temporary": temporary}[sys.argv[1]]
    print(json.dumps(play(Path(sys.argv[2]), sys.argv[3:])))
