"""The cost of the protocol in addition to training, from runs in their own processes and the files they leave."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fednano.core.clock import Stopwatch
from fednano.core.event_log import read_log
from fednano.core.events import Evaluated

ANALYTIC = ("runtime.compute=analytic", "eval_tokens=512")
# Three sites for 15 hours, each up while its grid's carbon intensity is low.
CURTAILMENT = (
    *ANALYTIC,
    *("volatility=trace", "volatility.speedup=1.0", "clients=3", "rounds=1200", "eval_every=1200"),
    *("checkpoint_every=1200", "hardware.tokens_per_s=[5000.0]", "strategy.local_steps=100"),
)
OVERHEAD = ("model=d4", "clients=4", "strategy.local_steps=50", "volatility=none", "checkpoint_every=1000")
# Right after an installation, Python compiles the modules it imports, which must not count.
WARM_UP = ("strategy.local_steps=1", "rounds=1", "eval_tokens=512")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run's figures.

    `wall_s` is the run's own time, `process_s` includes imports, data and report, `eval_s` is spent on evaluations.
    `events` counts lines of the event log, `virtual_s` is time on the run's clock, `peak_mb` is resident memory.
    """

    name: str
    events: int
    virtual_s: float
    process_s: float
    wall_s: float
    train_s: float
    eval_s: float
    peak_mb: float

    @property
    def us_per_event(self) -> float:
        return self.wall_s / self.events * 1e6

    @property
    def overhead(self) -> float | None:
        """Seconds outside inner steps and evaluations ÷ seconds in inner steps; None without inner steps."""
        return (self.wall_s - self.train_s - self.eval_s) / self.train_s if self.train_s else None


def run(name: str, overrides: Sequence[str]) -> Run:
    """Run an experiment in its own process. Raises ValueError with its output if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fednano.run", *overrides, f"hydra.run.dir={folder}"]
        watch = Stopwatch()
        with watch:
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise ValueError(f"{name}: {ran.stderr.strip() or ran.stdout.strip()}")
        summary = json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))
        events, eval_s = 0, 0.0
        for event in read_log(Path(folder) / "events.jsonl"):
            events += 1
            if isinstance(event, Evaluated):
                eval_s += event.wall_s
    return Run(
        name=name,
        events=events,
        virtual_s=summary["virtual_s"],
        process_s=watch.seconds,
        wall_s=summary["wall_s"],
        train_s=summary["train_s"],
        eval_s=eval_s,
        peak_mb=summary["peak_rss_mb"],
    )


def curtailment() -> Iterator[Run]:
    yield run("15 h, 3 sites", CURTAILMENT)


def scale(rounds: int) -> Iterator[Run]:
    """The experiment's rounds, then strategies without rounds for as long on the virtual clock."""
    first = run("experiment=scale", ("experiment=scale", f"rounds={rounds}"))
    yield first
    for strategy in ("fedbuff", "decoupled_diloco"):
        words = (f"strategy={strategy}", "strategy.quorum=50", "strategy.local_steps=250", "optim.state=keep")
        ends = ("rounds=null", f"budget.virtual_hours={first.virtual_s / 3600}")
        yield run(strategy, ("experiment=scale", *words, *ends))


def growth(events: int) -> Iterator[Run]:
    """Runs of about `events` events each, with ever more clients."""
    for clients in (100, 1000, 10_000):
        rounds = max(2, round(events / (1.8 * clients)))
        yield run(f"{clients:,} clients", ("experiment=scale", f"clients={clients}", f"rounds={rounds}"))


def overhead(rounds: int) -> Iterator[Run]:
    run("warm-up", (*OVERHEAD, *WARM_UP))
    yield run("d4, H = 50, 4 clients", (*OVERHEAD, f"rounds={rounds}", f"eval_every={rounds}"))
