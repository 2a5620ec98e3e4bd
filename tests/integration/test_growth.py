"""A long run takes no more memory and opens no more files than a short one."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.deployed import linux

GROWTH = Path(__file__).parents[1] / "support" / "growth.py"
MOST = 1.03


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("early", "late", "overrides"),
    [
        (200, 1999, ["rounds=2000", "runtime.compute=analytic", "clients=4"]),
        (50, 299, ["rounds=300", "clients=2", "optim=adamw"]),
    ],
    ids=["analytic", "torch"],
)
def test_memory_and_open_files_do_not_grow_with_the_rounds(
    tiny: list[str], tmp_path: Path, early: int, late: int, overrides: list[str]
) -> None:
    ended = subprocess.run(
        [sys.executable, GROWTH, tmp_path, f"{early},{late}", *tiny, *overrides],
        capture_output=True,
        text=True,
        check=True,
    )
    (_, before, opened), (_, after, still) = (map(int, line.split()) for line in ended.stdout.splitlines())
    assert still == opened
    assert after <= MOST * before
