"""The table at the end of a sweep."""

import io
import math
from pathlib import Path

from rich.console import Console

from fednano.experiment.sweep import JobState
from fednano.report.terminal.sweep_table import SweepTable, varying

LONG = ("strategy.outer.momentum=0.9", "optim.matrix_lr=0.055332536888805156", "volatility.mean_up_s=120")
JOBS = (
    JobState(job=0, overrides=("seed=1", "clients=2", *LONG), folder="0", status="completed",
             figures={"val_bpb": 1.23456789, "co2_g": 1.5e-7}, wall_s=75.0),
    JobState(job=1, overrides=("seed=2", "clients=2"), folder="1", status="failed", error="why", code=1, wall_s=2.0),
    JobState(job=10, overrides=("seed=2", "clients=2", *LONG), folder="", status="completed before",
             figures={"val_bpb": None, "co2_g": 2.0}, wall_s=36_000.0),
)  # fmt: skip


def printed(jobs: tuple[JobState, ...] = JOBS, terminal: bool = True) -> str:
    out = Console(file=io.StringIO(), width=80, force_terminal=terminal, color_system="standard" if terminal else None)
    SweepTable(Path("outputs/swept"), jobs, out).print()
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_what_varies_is_what_is_shown() -> None:
    assert varying(JOBS) == {"seed", *(word.partition("=")[0] for word in LONG)}


def test_it_fits_80_columns_and_loses_nothing() -> None:
    text = printed(terminal=False)
    *rows, closing = text.splitlines()
    assert max(map(len, rows)) <= 80
    folded = "".join(row[5:45] for row in rows).replace(" ", "")
    for word in ("seed=1", *LONG):
        assert word in folded, text
    for cell in ("1.2346", "1.5e-07", "1m 15s", "10h 00m", "not measured", "failed", "completed before", "gCO2"):
        assert cell in text
    assert "clients" not in text
    assert closing == "2 of 3 jobs completed in outputs/swept; continue the sweep with sweep.resume=outputs/swept"


def test_colours_are_for_a_terminal() -> None:
    assert "\x1b[31mfailed" in printed()
    assert "\x1b" not in printed(terminal=False)


def test_the_job_with_the_lowest_figure_is_named() -> None:
    def jobs(name: str, *values: float | None) -> tuple[JobState, ...]:
        return tuple(
            JobState(job=number, overrides=(), folder="", status="completed", figures={name: value})
            for number, value in enumerate(values)
        )

    assert "lowest bpb: job 2, 1.5\n" in printed(jobs("val_bpb", 2.0, None, 1.5, math.nan))
    assert "lowest" not in printed(jobs("goodput", 2.0, 1.0)) + printed(jobs("val_bpb", 2.0, None)) + printed()


def test_a_figure_that_diverged_says_so() -> None:
    job = JobState(job=0, overrides=(), folder="", status="completed", figures={"val_bpb": None}, diverged=("val_bpb",))
    assert "diverged" in printed((job,))
    assert "not measured" not in printed((job,))


def test_a_sweep_of_one_job_has_nothing_that_varies() -> None:
    assert "1 job completed in outputs/swept" in printed(JOBS[:1])
    assert "0 of 0 jobs completed" in printed(())
