"""Tables of what `fednano.evaluate` measured."""

from collections.abc import Mapping, Sequence
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


def text_notes(validation: Mapping[str, Any], sources: Sequence[str], most: int) -> list[str]:
    """Lines below `text_table`: what its rows measure, and which of the corpus's sources it lacks.

    `most` is the largest number of tokens of a row.
    """
    notes = []
    if sum(row["tokens"] for row in validation["sources"].values()) > validation["tokens"] + len(validation["sources"]):
        notes.append(
            f"Each row measures at most {most:,} tokens (eval_tokens), from the beginning of its own text; all is no "
            "mean of the other rows."
        )
    if lacking := [name for name in sources if name not in validation["sources"]]:
        have = "have" if len(lacking) > 1 else "has"
        notes.append(f"{', '.join(lacking)} {have} no held-out document.")
    return notes


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
