"""Tables of what `fednano.evaluate` measured."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table


def text_table(validation: Mapping[str, Any]) -> Table:
    """Held-out text by source and in all, as `measure_held_out` records it."""
    table = Table("held-out text", title=None)
    for name in ("tokens", "nats/token", "bits/byte"):
        table.add_column(name, justify="right")
    for name, row in {**validation["sources"], "all": validation}.items():
        table.add_row(name, f"{row['tokens']:,}", f"{row['loss']:.4f}", f"{row['bpb']:.4f}")
    return table


def task_table(record: Mapping[str, Any]) -> Table:
    """Tasks and the mean of their centred accuracies, as `measure_tasks` records them."""
    table = Table("task")
    for name in ("shots", "items", "cut", "accuracy", "baseline", "centred"):
        table.add_column(name, justify="right")
    for label, row in record["tasks"].items():
        counts = (str(row[name]) for name in ("shots", "items", "items_cut"))
        table.add_row(label, *counts, *(f"{row[name]:.4f}" for name in ("accuracy", "baseline", "centred")))
    table.add_row("mean", "", "", "", "", "", f"{record['mean_centred']:.4f}")
    return table
