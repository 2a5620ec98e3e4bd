"""Tables of the figures."""

import argparse

from rich.console import Console
from rich.table import Table

from fednano.bench.train_step.device import Device
from fednano.bench.train_step.split import PARTS
from fednano.bench.train_step.works import StepFigures


def show(found: StepFigures, options: argparse.Namespace, console: Console) -> None:
    """Print the figures as tables."""
    rows = found["contenders"][0].get("batch_size", options.batch_size)
    size = f"d{options.depth}, {rows} × {options.sequence_len} tokens, vocabulary {options.vocab_size}"
    where = f"{options.threads} threads" if options.device == "cpu" else options.device
    title = f"step: {size}, {options.dtype}, {where}, medians of {options.repeats}"
    table = Table(title=title)
    table.add_column("figure", no_wrap=True)
    for contender in found["contenders"]:
        table.add_column(contender["name"] + (" compiled" if contender["compiled"] else ""), justify="right")
    figures: list[tuple[str, str, float, str]] = [
        ("tokens/s", "tokens_per_s", 1, ",.0f"),
        ("× nanochat", "ratio", 1, ".2f"),
        ("GFLOP/s", "gflop_per_s", 1, ".0f"),
        ("share of the ceiling", "share_of_ceiling", 1, ".2f"),
        ("to the end of the first step, s", "first_step_s", 1, ".1f"),
        ("peak memory, MB", "peak_bytes", 1e-6, ".0f"),
        ("loss of the first step", "loss", 1, ".6f"),
        ("rows", "batch_size", 1, ".0f"),
        ("step, ms", "step_s", 1e3, ".0f"),
        ("forward, ms", "forward_s", 1e3, ".0f"),
        ("backward, ms", "backward_s", 1e3, ".0f"),
        ("optimizer, ms", "optimizer_s", 1e3, ".0f"),
    ]
    for label, key, factor, form in figures:
        table.add_row(label, *(cell(c.get(key), factor, form) for c in found["contenders"]))
    for part in PARTS:
        split = [c["split_s"] and c["split_s"][part] for c in found["contenders"]]
        table.add_row(f"split: {part}, ms", *(cell(value, 1e3, ".0f") for value in split))
    console.print(table)
    for contender in found["contenders"]:
        if not contender["same_loss"]:
            console.print(f"{contender['name']} has a different first loss: it is not the same model", highlight=False)
    for name, error in found.get("failed", {}).items():
        console.print(f"{name} did not run: {error}", highlight=False)
    loss, side = found["head_and_loss"], Device(options.device).square
    console.print(
        f"ceiling: {found['ceiling_gflop_per_s']:,.0f} GFLOP/s in a product of {side} × {side}", highlight=False
    )
    alone = f"{loss['loss_s'] * 1e3:.1f} ms, {loss['ratio']:.2f} times its three products"
    console.print(f"head and loss alone: {alone}", highlight=False)
    if "clients" in found:
        each = found["clients"]
        speeds = f"{each['tokens_per_s']:,.0f} against {each['one_process_tokens_per_s']:,.0f} tokens/s"
        console.print(
            f"{each['count']} processes of one thread against one of {each['count']}: {speeds}, {each['ratio']:.2f}",
            highlight=False,
        )


def cell(value: float | None, factor: float, form: str) -> str:
    return "—" if value is None else format(value * factor, form)
