"""Runs that are killed at random moments and resumed end as uninterrupted ones do."""

import subprocess
import sys
from pathlib import Path

from support.deployed import linux

SOAK = Path(__file__).parents[1] / "support" / "soak.py"
KINDS = ("int4", "decoupled")  # make soak has more


@linux
def test_killed_runs_end_the_same() -> None:
    """Each run is killed as often as its share of the kills allows, so that few have to be run to their ends."""
    ended = subprocess.run(
        [sys.executable, SOAK, "--kills", "3", "--seed", "1", "--again", "1", "--only", *KINDS],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    name, _, kills, behind, *_ = ended.stdout.splitlines()[-1].split()
    assert (name, kills, behind) == ("all", "3", "3")
