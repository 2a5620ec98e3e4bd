"""Memory and open files of this process during a run, or during the jobs of a multirun in one process.

    python tests/support/growth.py FOLDER ROUND,ROUND,… OVERRIDE …

prints a line `ROUND KIB DESCRIPTORS` for each of some rounds.

    python tests/support/growth.py FOLDER jobs OVERRIDE … seed=0,1,2

prints a line `JOB KIB DESCRIPTORS THREADS OBJECTS` after each job; OBJECTS are those that the
garbage collector knows.
"""

import gc
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console

from fednano.config.compose import compose_config
from fednano.coordination.memory import MemoryStore
from fednano.core.events import Event, RoundMerged, RoundSkipped
from fednano.core.inner_step import InnerStep
from fednano.core.progress import Silent
from fednano.experiment.experiment import Experiment
from fednano.report.sinks import Energy, Sink
from fednano.runtime.run_folder import run_in_folder


def held() -> tuple[int, int]:
    """KiB of memory, and the number of open files."""
    return status("VmRSS"), len(list(Path("/proc/self/fd").iterdir()))


def status(figure: str) -> int:
    """A figure that the system keeps of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{figure}:"))


class JobGrowth(Callback):
    """A callback of Hydra's that prints what is held after each job."""

    def on_job_end(self, config: DictConfig, **kwargs: Any) -> None:
        print(
            "job",
            config.hydra.job.num,
            *held(),
            status("Threads"),
            len(gc.get_objects()),
            file=sys.__stdout__,
            flush=True,
        )


class Growth:
    """A logger that prints what is held at the end of some rounds."""

    def __init__(self, rounds: set[int]) -> None:
        self._rounds = rounds

    def open(self, folder: Path, config: dict[str, Any], energy: Energy) -> list[Sink]:
        return [self]

    def event(self, event: Event) -> None:
        if isinstance(event, RoundMerged | RoundSkipped) and event.round in self._rounds:
            print(event.round, *held(), flush=True)

    def step(self, step: InnerStep) -> None:
        pass

    def close(self, summary: dict[str, Any]) -> None:
        pass


def main() -> None:
    folder, rounds, *overrides = sys.argv[1:]
    if rounds == "jobs":
        from fednano.run import main as run

        callback = "+hydra.callbacks.growth._target_=growth.JobGrowth"
        allowed = ["--allow-module", "growth"]
        sys.argv[1:] = [*allowed, "-m", *overrides, callback, f"hydra.sweep.dir={folder}"]
        sys.exit(run())
    cfg = compose_config(overrides)
    experiment = Experiment(cfg)
    parts = experiment.parts(experiment.prepare(Silent()), MemoryStore())
    growth = Growth({int(word) for word in rounds.split(",")})
    with open("/dev/null", "w") as nowhere:  # noqa: PTH123
        run_in_folder(Path(folder), "growth", experiment.runtime, parts, growth, {}, None, Console(file=nowhere))


if __name__ == "__main__":
    main()
