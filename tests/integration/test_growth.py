"""A long run takes no more memory and opens no more files than a short one, nor does a long sweep."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.deployed import linux

GROWTH = Path(__file__).parents[1] / "support" / "growth.py"
MOST = 1.03
OBJECTS = 3_000  # a job; Hydra keeps some 1,600 for the configuration of each job until the sweep ends


@linux
@pytest.mark.parametrize(
    ("jobs", "compute"), [(3, "analytic"), pytest.param(10, "torch", marks=pytest.mark.slow)], ids=["analytic", "torch"]
)
def test_a_job_of_a_sweep_leaves_nothing_to_the_next(tiny: list[str], tmp_path: Path, jobs: int, compute: str) -> None:
    overrides = [*tiny, "rounds=1", f"runtime.compute={compute}", f"seed={','.join(map(str, range(jobs)))}"]
    ended = subprocess.run(
        [sys.executable, GROWTH, tmp_path / "sweep", "jobs", *overrides],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [words for line in ended.stdout.splitlines() if (words := line.split()) and words[0] == "job"]
    lines = [
        words for words in lines if words[1].isdecimal() and words[2].isdecimal()
    ]  # not what the sweep says itself
    after = [tuple(map(int, words[2:])) for words in lines]  # (KiB, descriptors, threads, objects)
    assert len(after) == jobs
    (kib, opened, _, objects), (kib_at_end, still, _, objects_at_end) = after[1], after[-1]
    assert still == opened
    assert objects_at_end - objects < OBJECTS * (jobs - 2)
    assert kib_at_end <= MOST * kib


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("early", "late", "overrides"),
    [
        (200, 1999, ["rounds=2000", "runtime.compute=analytic", "clients=4"]),
        (200, 1999, ["rounds=2000", "runtime.compute=analytic", "clients=64"]),
        (50, 299, ["rounds=300", "clients=2", "optim=adamw"]),
    ],
    ids=["analytic", "many", "torch"],
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
