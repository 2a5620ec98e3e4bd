"""The record of a sweep in its folder: what was asked for, and what became of each job, whichever process ran it."""

import json
import math
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from omegaconf import DictConfig, OmegaConf

from fednano.config.errors import BAD_INPUT, FAILED, REFUSAL, shown
from fednano.config.hydra.node import RECORD, SWEEP_FOLDER
from fednano.core.claim import ClaimedError, claim
from fednano.core.clock import wall
from fednano.core.events import finite
from fednano.core.files import read_json, write_atomically
from fednano.report.comparison.runs import RecordedRun
from fednano.report.sinks import flat
from fednano.report.units import DIVERGED

RESTORE = "restore the file, or start the sweep again in another folder"
# What sweep.metrics may name: figures of summary.json that are one number.
METRICS = ("val_bpb", "train_loss", "goodput", "co2_g", "energy_kwh", "virtual_s", "wall_s", "tokens", "tokens_per_s",
           "bytes.up", "bytes.down", "peak_rss_mb")  # fmt: skip
RUNNING, COMPLETED, BEFORE, INTERRUPTED = "running", "completed", "completed before", "interrupted"
FAILED_STATUS, REFUSED, NOT_STARTED = "failed", "refused", "not started"
LOST = "its process ended without a word, as one that is killed for its memory does"

Returned = float | tuple[float, ...] | None


class TakenError(ValueError):
    """Another job, or another process, uses the job's folder, which is unchanged."""


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """The keys `sweep.…` of a configuration.

    Args:
        resume: the folder of a sweep to continue; on the command line only.
        metrics: the figures of a run's summary that a job returns to the sweeper, in the order of its directions.
    """

    resume: str | None = None
    metrics: Sequence[str] = ("val_bpb",)

    def __post_init__(self) -> None:
        if self.resume is not None:
            raise ValueError(
                f"sweep.resume must be given on the command line as sweep.resume=FOLDER, got {shown(self.resume)}; "
                "move it there"
            )
        if not self.metrics:
            raise ValueError("sweep.metrics must name at least one figure, got []; use, for example, [val_bpb]")
        for name in self.metrics:
            if name not in METRICS:
                raise ValueError(f"sweep.metrics must be of {', '.join(METRICS)}, got {shown(name)}; use one of them")


@dataclass(frozen=True, kw_only=True)
class JobState:
    """What became of one job.

    Args:
        job: its number, from 0.
        overrides: its overrides of the configuration.
        folder: its run folder, from the sweep's folder.
        status: one of the words above.
        error: why it failed or was refused.
        code: the exit code that this would have been, were it the only run.
        figures: what `sweep.metrics` names, of a completed run; null: not measured.
        diverged: those figures that are null since the model diverged.
        wall_s: seconds of wall-clock time, those before a resume included; null: not known.
    """

    job: int
    overrides: tuple[str, ...]
    folder: str
    status: str = NOT_STARTED
    error: str | None = None
    code: int = 0
    figures: dict[str, float | None] | None = None
    wall_s: float | None = None
    diverged: tuple[str, ...] = ()


class SweepRecord:
    """The record in a sweep's folder: `.sweep/sweep.json`, and one file for each job that has begun.

    Args:
        folder: the sweep's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._place = folder / SWEEP_FOLDER

    @classmethod
    def of_job(cls, job: Any) -> Self:
        """The record of the sweep of which `job` is one, by Hydra's own node."""
        return cls(Path(os.environ.get(RECORD) or Path(job.runtime.cwd, job.sweep.dir)))

    def begin(
        self,
        overrides: Sequence[str],
        typed: Sequence[str],
        jobs: Sequence[Sequence[str]] | None,
        again: bool,
        config_dir: str | None = None,
    ) -> None:
        """Write what was asked for; unless `again`, nothing is left of what an earlier sweep recorded here.

        Args:
            overrides: of the sweep, with the values that came of shuffling.
            typed: the same as they were given.
            jobs: the overrides of each; None: a sweeper chooses them later.
            again: the sweep is continued.
            config_dir: the folder that --config-dir gave.
        """
        if not again:
            for path in self._files():
                path.unlink()
        earlier = self.asked().get("typed", []) if again and self.is_recorded() else []
        told = {
            "version": 1,
            "overrides": list(overrides),
            "typed": list(dict.fromkeys([*earlier, *typed])),
            "jobs": jobs and [list(job) for job in jobs],
            "directory": str(Path.cwd()),
            "config_dir": config_dir,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        write_atomically(self._place / "sweep.json", json.dumps(told, indent=1) + "\n")

    def asked(self) -> dict[str, Any]:
        """What `begin` wrote. Raises ValueError without a sound file."""
        return read_json(self._place / "sweep.json", RESTORE)

    def is_recorded(self) -> bool:
        return (self._place / "sweep.json").is_file()

    def job(self, number: int, overrides: Sequence[str], folder: Path) -> "SweepJob":
        return SweepJob(self, number, tuple(map(str, overrides)), folder)

    def state(self, number: int) -> JobState | None:
        """The record of a job; None before it has begun. Raises ValueError for a damaged file."""
        path = self._place / f"{number}.json"
        if not path.exists():
            return None
        held = read_json(path, "remove it")
        try:
            return JobState(
                **{**held, "overrides": tuple(held["overrides"]), "diverged": tuple(held.get("diverged") or ())}
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} cannot be read ({error}); remove it") from error

    def write(self, state: JobState) -> None:
        write_atomically(self._place / f"{state.job}.json", json.dumps(finite(asdict(state)), indent=1) + "\n")

    def begun(self) -> list[JobState]:
        """The jobs that have begun, in order."""
        numbers = sorted(int(path.stem) for path in self._files() if path.stem.isdecimal())
        return [state for number in numbers if (state := self.state(number))]

    def outcome(self) -> list[JobState]:
        """Every job, once none runs any more: one whose process is gone has failed, others did not start."""
        found = {state.job: state for state in self.begun()}
        for number, words in enumerate(self.asked().get("jobs") or ()):
            found.setdefault(number, JobState(job=number, overrides=tuple(words), folder=""))
        return [found[number] for number in sorted(found)]

    def close(self, interrupted: bool) -> list[JobState]:
        """Record that no job runs any more; returns what became of all of them. `interrupted`: the command was."""
        for state in self.begun():
            if state.status != RUNNING:
                continue
            if interrupted:  # which ends the processes of jobs that run side by side
                self.write(replace(state, status=INTERRUPTED))
            else:
                self.write(replace(state, status=FAILED_STATUS, error=LOST, code=FAILED))
        return self.outcome()

    @property
    def process(self) -> int | None:
        """The command that began the sweep; None if it runs on another machine."""
        asked = self.asked()
        return int(asked["pid"]) if asked.get("host") == socket.gethostname() else None

    def is_here(self) -> bool:
        """Whether this is the process of the command that began the sweep."""
        if not self.is_recorded():
            return True
        asked = self.asked()
        return bool((asked.get("host"), asked.get("pid")) == (socket.gethostname(), os.getpid()))

    def _files(self) -> list[Path]:
        return list(self._place.glob("*.json"))


class SweepJob:
    """One job of a sweep, entered while it runs.

    Args:
        sweep: the sweep's record.
        number: of the job.
        overrides: of the job.
        folder: the job's run folder.
    """

    def __init__(self, sweep: SweepRecord, number: int, overrides: tuple[str, ...], folder: Path) -> None:
        self._sweep = sweep
        self.folder = folder
        self._before = sweep.state(number)
        self._state = JobState(job=number, overrides=overrides, folder=os.path.relpath(folder, sweep.folder))
        self._claims = ExitStack()
        self._start = wall()
        self.shares_terminal = not sweep.is_here() and "SUBMITIT_EXECUTOR" not in os.environ

    @property
    def begun_before(self) -> bool:
        """Whether this job was begun by an earlier process: before `sweep.resume`, or before it was preempted."""
        return self._before is not None

    def __enter__(self) -> Self:
        """Claim the folder, unless the job was begun before, and record that it runs.

        Raises TakenError if the folder is another job's.
        """
        if self._before:
            if (self._before.overrides, self._before.folder) != (self._state.overrides, self._state.folder):
                raise TakenError(
                    f"its overrides must be those it began with, {' '.join(self._before.overrides)}, got "
                    f"{' '.join(self._state.overrides)}; start another sweep"
                )
        else:
            try:
                self._claims.callback(claim(self.folder).release)
            except ClaimedError as error:
                raise TakenError(self._shared(str(error))) from None
            for other in self._sweep.begun():
                if other.folder == self._state.folder and other.job != self._state.job:
                    self._claims.close()
                    raise TakenError(self._shared(f"job {other.job}"))
        self._write(status=RUNNING)
        total = len(self._sweep.asked().get("jobs") or ()) if self._sweep.is_recorded() else 0
        place = f" ({self._state.job + 1} of {total})" if total else ""
        print(f"job {self._state.job}{place}: {' '.join(self._state.overrides)}", flush=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._claims.close()

    def completed(self, cfg: DictConfig, before: bool = False) -> Returned:
        """Record the figures of a completed run; returns those for the sweeper."""
        summary = read_json(self.folder / "summary.json", "remove it")
        values = [_figure(summary, name) for name in metrics_of(cfg)]
        figures = dict(zip(metrics_of(cfg), values, strict=True))
        run = RecordedRun(folder=self.folder, config={}, figures=flat(summary, "."))
        diverged = tuple(name for name in figures if run.lack(name) == DIVERGED)
        status = BEFORE if before else COMPLETED
        self._write(status=status, figures=figures, wall_s=summary.get("wall_s"), diverged=diverged)
        if self.shares_terminal and not before:
            told = ", ".join(
                f"{name} {DIVERGED if name in diverged else f'{value:.5g}'}"
                for name, value in figures.items()
                if name in diverged or not math.isnan(value)
            )
            print(f"job {self._state.job}: completed{told and f', {told}'}", flush=True)
        return values[0] if len(values) == 1 else tuple(values)

    def failed(self, cause: str, code: int) -> None:
        """Record why the job failed, and say so."""
        status = REFUSED if code == BAD_INPUT else FAILED_STATUS
        self._write(status=status, error=cause, code=code, wall_s=wall() - self._start)
        print(f"{REFUSAL}job {self._state.job}: {cause}", file=sys.stderr, flush=True)

    def ended(self, status: str) -> None:
        """Record that the job ended before it was completed."""
        self._write(status=status, wall_s=wall() - self._start)

    def _write(self, **changes: Any) -> None:
        self._state = replace(self._state, **changes)
        self._sweep.write(self._state)

    def _shared(self, by: str) -> str:
        return (
            f"hydra.sweep.subdir must give each job a folder of its own, got {self.folder}, which {by} uses; use, for "
            "example, hydra.sweep.subdir='${hydra.job.num}'"
        )


def metrics_of(cfg: DictConfig) -> tuple[str, ...]:
    """What `sweep.metrics` names; the default for a configuration without it."""
    return tuple(OmegaConf.select(cfg, "sweep.metrics", default=SweepSettings.metrics))


def exit_code(states: Sequence[JobState]) -> int:
    """The exit code of a sweep: that of a failed run if one failed, else that of a refused one if one was refused."""
    return min((state.code for state in states if state.code), default=0)


def _figure(summary: dict[str, Any], name: str) -> float:
    value: Any = summary
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return math.nan if value is None else float(value)
