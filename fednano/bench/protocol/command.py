"""The command: its cases, and their tables."""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

from rich.table import Table

from fednano.bench.protocol import hostile, runs
from fednano.bench.protocol.hostile import Cost
from fednano.bench.protocol.runs import Run
from fednano.report.terminal.printer import printer

MOST_MS = 50.0


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fednano.bench protocol", description="Measure what the protocol costs in addition to training."
    )
    cases: dict[str, Callable[[argparse.Namespace], Iterator[Run | Cost]]] = {
        "curtailment": lambda chosen: runs.curtailment(),
        "scale": lambda chosen: runs.scale(chosen.rounds),
        "growth": lambda chosen: runs.growth(chosen.events),
        "overhead": lambda chosen: runs.overhead(chosen.train_rounds),
        "hostile": lambda chosen: hostile.costs(chosen.depth, chosen.repeats),
    }
    parser.add_argument(
        "--case",
        action="append",
        choices=cases,
        metavar="CASE",
        help=f"the case to run: {', '.join(cases)}; repeat it for several (default: all)",
    )
    parser.add_argument(
        "--rounds", type=int, default=640, help="synchronous rounds of the scale case (default: %(default)s)"
    )
    parser.add_argument(
        "--events", type=int, default=100_000, help="events per run of the growth case (default: %(default)s)"
    )
    parser.add_argument(
        "--train-rounds", type=int, default=2, help="rounds of the overhead case (default: %(default)s)"
    )
    parser.add_argument("--depth", type=int, default=4, help="layers of the hostile case (default: %(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=20, help="of every reply of the hostile case (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    chosen = parser.parse_args(arguments)
    for key in ("depth", "repeats"):
        if getattr(chosen, key) < 1:
            raise ValueError(f"--{key} must be >= 1, got {getattr(chosen, key)}; use 1 or more")
    found = [measured for case in chosen.case or cases for measured in cases[case](chosen)]
    played = [row for row in found if isinstance(row, Run)]
    costs = [row for row in found if isinstance(row, Cost)]
    if chosen.json:
        figures = [{**asdict(r), "us_per_event": r.us_per_event, "overhead": r.overhead} for r in played]
        print(json.dumps([*figures, *({**asdict(c), "share": c.share} for c in costs)], indent=2))
        return
    if played:
        printer().print(_table_of_runs(played))
    if costs:
        printer().print(_table_of_costs(costs))


def _table_of_runs(played: Sequence[Run]) -> Table:
    table = Table(title="cost of the protocol")
    table.add_column("run", no_wrap=True)
    for column in ("events", "virtual h", "process s", "wall s", "µs/event", "peak MB", "overhead"):
        table.add_column(column, justify="right")
    for r in played:
        share = f"{100 * r.overhead:.1f} %" if r.overhead is not None else "–"
        cells = (f"{r.events:,}", f"{r.virtual_s / 3600:,.1f}", f"{r.process_s:.1f}", f"{r.wall_s:.1f}")
        table.add_row(r.name, *cells, f"{r.us_per_event:.1f}", f"{r.peak_mb:,.0f}", share)
    return table


def _table_of_costs(costs: Sequence[Cost]) -> Table:
    table = Table(
        title=f"cost of a reply to a server whose model has {costs[0].model_bytes / 1e6:,.0f} MB",
        caption=f"A reply marked * is honest in form and may cost as much as an honest one; any other must take less "
        f"than {MOST_MS:g} ms and the model's size.",
    )
    table.add_column("reply", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for column in ("median ms", "slowest ms", "slowest CPU ms", "peak MB", "of the model"):
        table.add_column(column, justify="right")
    for c in costs:
        times = (f"{c.median_ms:.2f}", f"{c.slowest_ms:.2f}", f"{c.slowest_cpu_ms:.2f}")
        table.add_row(c.name + " *" * c.full, c.verdict, *times, f"{c.peak_bytes / 1e6:.2f}", f"{100 * c.share:.1f} %")
    return table
