"""The speed of making batches compared with training on them, for every packing."""

import argparse
import json
import statistics
from collections.abc import Iterable
from itertools import cycle, islice
from typing import Any

from rich.table import Table

from fednano.config.compose import compose_config
from fednano.coordination.memory import MemoryStore
from fednano.core.clock import RealClock, Stopwatch
from fednano.core.progress import Progress, Silent
from fednano.core.tensors import State
from fednano.data.ledger import Grant, Span
from fednano.data.loader import Batch, LeaseLoader
from fednano.experiment.experiment import Experiment
from fednano.report.terminal.console import RichProgress
from fednano.report.terminal.printer import printer
from fednano.runtime.beginning import local_trainer, untrained
from fednano.runtime.parts import Parts
from fednano.training.local import LocalTrainer, StepPlan

PACKINGS = ("stream", "best_fit")


def batches(parts: Parts) -> LeaseLoader:
    """Batches of the first pool, from its first row to its last."""
    grant = Grant(0, (Span(0, 0, len(parts.pools.rows[0])),))
    return LeaseLoader(parts.source, parts.pools.rows[0], grant, *parts.shape, parts.packing)


def loaded_per_s(parts: Parts, count: int) -> float:
    """Tokens per second of making `count` batches, with nothing else to do."""
    watch = Stopwatch()
    with watch:
        made = sum(1 for _ in islice(batches(parts), count))
    return made * parts.tokens_per_step / watch.seconds


def train(parts: Parts, trainer: LocalTrainer, weights: State, source: Iterable[Batch], steps: int) -> dict[str, float]:
    """Figures of `steps` inner steps: tokens_per_s, and waiting, the share of the time spent waiting for batches."""
    plan = StepPlan(steps=steps, step_s=1.0, tokens_before=0, tokens_per_step=parts.tokens_per_step, horizon=10**12)
    done, _ = trainer.run("bench", weights, source, plan, RealClock(), lambda _: True, lambda *_: None)
    return {"tokens_per_s": done.tokens / done.train_s, "waiting": done.data_s / done.train_s}


def measure(overrides: list[str], steps: int, repeats: int, progress: Progress) -> dict[str, Any]:
    """Medians over `repeats` rounds, after an unmeasured one; each round times every packing once.

    `still` is the speed of training on one batch made beforehand. Raises ValueError for bad overrides.
    """
    trials: dict[str, Parts] = {}
    for packing in PACKINGS:
        experiment = Experiment(compose_config([*overrides, f"packing={packing}"]))
        trials[packing] = experiment.parts(experiment.prepare(progress), MemoryStore())
    first = trials[PACKINGS[0]]
    trainer = local_trainer(first, first.tokens_per_step)
    weights = untrained(first)
    still = list(islice(batches(first), 1))
    loads: dict[str, list[float]] = {name: [] for name in trials}
    trained: dict[str, list[dict[str, float]]] = {name: [] for name in (*trials, "still")}
    for turn in range(repeats + 1):
        for name, parts in trials.items():
            speed = loaded_per_s(parts, 8 * steps)
            figures = train(parts, trainer, weights, batches(parts), steps)
            if turn:
                loads[name].append(speed)
                trained[name].append(figures)
        figures = train(first, trainer, weights, cycle(still), steps)
        if turn:
            trained["still"].append(figures)

    def medians(name: str) -> dict[str, float]:
        return {key: statistics.median(f[key] for f in trained[name]) for key in ("tokens_per_s", "waiting")}

    return {
        "still": medians("still"),
        **{name: {"loaded_tokens_per_s": statistics.median(loads[name]), **medians(name)} for name in trials},
    }


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fednano.bench loader",
        description="Measure how fast each packing makes batches, and what share of a step waits for data.",
    )
    parser.add_argument("overrides", nargs="*", help="of python -m fednano.run, such as model=d4 data=text")
    parser.add_argument("--steps", type=int, default=8, help="inner steps per trial (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="trials per packing (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    chosen = parser.parse_args(arguments)
    found = measure(chosen.overrides, chosen.steps, chosen.repeats, Silent() if chosen.json else RichProgress())
    if chosen.json:
        print(json.dumps(found, indent=2))
        return
    table = Table(title=f"batches: medians of {chosen.repeats}")
    for column in ("packing", "made, tokens/s", "× training", "trained, tokens/s", "waiting"):
        table.add_column(column, justify="left" if column == "packing" else "right")
    for name, figures in found.items():
        made = figures.get("loaded_tokens_per_s")
        speed = (f"{made:,.0f}", f"{made / figures['tokens_per_s']:,.0f}") if made else ("–", "–")
        table.add_row(name, *speed, f"{figures['tokens_per_s']:,.0f}", f"{100 * figures['waiting']:.2f} %")
    printer().print(table)
