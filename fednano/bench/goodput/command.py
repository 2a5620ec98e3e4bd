"""The command: its options, its two parts and their tables."""

import argparse
import json

from fednano.bench.goodput import churn, links
from fednano.core.progress import Silent
from fednano.report.terminal.console import RichProgress
from fednano.report.terminal.printer import printer

PARTS = ("churn", "links")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fednano.bench goodput",
        description="Compare strategies on the virtual clock without tensors: what share of the clients' time becomes "
        "tokens of the global model while clients crash and come back, and what share of it they compute over thin "
        "links. A strategy is a choice of conf/strategy; overrides may follow it: "
        "'diloco,diloco strategy.grace=5 strategy.late=next'.",
    )
    parser.add_argument("overrides", nargs="*", help="of python -m fednano.run, for every run, such as data=text")
    parser.add_argument("--part", action="append", choices=PARTS, help="repeat it for several (default: both)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    churn.add_options(parser)
    links.add_options(parser)
    chosen = parser.parse_args(arguments)
    parts = chosen.part or PARTS
    churn.check(chosen)
    links.check(chosen)
    progress = Silent() if chosen.json else RichProgress()
    crashed = churn.measure(chosen, progress) if "churn" in parts else []
    thin = links.measure(chosen, progress) if "links" in parts else []
    if chosen.json:
        found = {"churn": churn.records(crashed), "links": links.records(thin)}
        print(json.dumps({part: found[part] for part in PARTS if part in parts}, indent=2))
        return
    for table in [*(churn.tables(crashed, chosen) if crashed else []), *(links.tables(thin) if thin else [])]:
        printer().print(table)
