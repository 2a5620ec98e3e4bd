"""Training clients at the same time on one core each, compared with training them in turn on all cores."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from fednano.core.event_log import read_log
from fednano.core.events import RoundMerged
from fednano.report.terminal.printer import printer

COMMON = ("volatility=none", "eval_every=1000", "eval_tokens=2048", "checkpoint_every=1000")


@dataclass(frozen=True)
class TimedRounds:
    """The rounds of a run after the first, in which processes start: tokens, and seconds from merge to merge."""

    workers: int
    tokens: int
    wall_s: float

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.wall_s


def run(workers: int, overrides: list[str]) -> TimedRounds:
    """Run an experiment in its own process. Raises ValueError with its output if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        options = [*COMMON, *overrides, f"hardware.workers={workers}", f"hydra.run.dir={folder}"]
        command = [sys.executable, "-m", "fednano.run", *options]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise ValueError(f"hardware.workers={workers}: {ran.stderr.strip() or ran.stdout.strip()}")
        merged = [event for event in read_log(Path(folder) / "events.jsonl") if isinstance(event, RoundMerged)][1:]
    return TimedRounds(workers, sum(event.tokens for event in merged), sum(event.wall_s for event in merged))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fednano.bench workers",
        description="Compare training clients at the same time (one core each) with training them in turn (all cores).",
    )
    parser.add_argument("--depth", type=int, default=2, help="layers of the model")
    parser.add_argument("--clients", type=int, default=4, help="number of clients")
    parser.add_argument("--local-steps", type=int, default=25, help="inner steps per round")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="worker processes (default: one per core)"
    )
    parser.add_argument("--repeats", type=int, default=1, help="runs of each kind, in turn")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    chosen = parser.parse_args(arguments)
    overrides = [f"model.depth={chosen.depth}", f"clients={chosen.clients}", "rounds=2"]
    overrides.append(f"strategy.local_steps={chosen.local_steps}")
    runs = [run(workers, overrides) for _ in range(chosen.repeats) for workers in (0, chosen.workers)]
    if chosen.json:
        print(json.dumps([{**asdict(r), "tokens_per_s": r.tokens_per_s} for r in runs], indent=2))
        return
    table = Table(title=f"d{chosen.depth}, {chosen.clients} clients, H = {chosen.local_steps}")
    for column in ("workers", "tokens", "seconds", "tokens/s", "ratio"):
        table.add_column(column, justify="right")
    for at, r in enumerate(runs):
        ratio = f"{r.tokens_per_s / runs[at - 1].tokens_per_s:.2f}×" if at % 2 else ""
        table.add_row(f"{r.workers}", f"{r.tokens:,}", f"{r.wall_s:.1f}", f"{r.tokens_per_s:,.0f}", ratio)
    printer().print(table)
