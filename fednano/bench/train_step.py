"""The inner step against the machine's own matrix products, measured in the same run."""

import argparse
import json
import statistics
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from fednano.clock import Stopwatch
from fednano.model.arch import SEED
from fednano.model.gpt import GPT, GPTConfig
from fednano.model.scaling import Depth, flops_per_token
from fednano.optim.inner import MuonAdamW

SQUARE = 1024  # side of the products that set the ceiling


def measure(depth: int, batch_size: int, sequence_len: int, vocab_size: int, repeats: int) -> dict[str, float]:
    """Medians over `repeats` rounds in which every part is timed once, after one unmeasured round.

    Returns:
        tokens_per_s, gflop_per_s, ceiling_gflop_per_s, share_of_ceiling, and the seconds of each part.
    """
    size = Depth(depth, sequence_len)
    model = GPT(GPTConfig.derive(size, SEED, vocab_size))
    model.init_weights(torch.Generator().manual_seed(0))
    optimizer = MuonAdamW().build(model)
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, vocab_size, (batch_size, sequence_len), generator=draw)
    targets = tokens.roll(-1, dims=1)
    square = torch.randn(SQUARE, SQUARE, generator=draw)

    parts: dict[str, Callable[[], object]] = {
        "ceiling": lambda: square @ square,
        "forward and backward": lambda: model(tokens, targets).backward(),
        "optimizer": lambda: optimizer.step(1.0),
    }
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(repeats + 1):
        for name, part in parts.items():
            watch = Stopwatch()
            with watch:
                part()
            if turn:
                seconds[name].append(watch.seconds)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    step = median["forward and backward"] + median["optimizer"]
    count = batch_size * sequence_len
    ceiling = 2 * SQUARE**3 / median["ceiling"] / 1e9
    achieved = flops_per_token(size, vocab_size) * count / step / 1e9
    return {
        "tokens_per_s": count / step,
        "gflop_per_s": achieved,
        "ceiling_gflop_per_s": ceiling,
        "share_of_ceiling": achieved / ceiling,
        "forward_backward_s": median["forward and backward"],
        "optimizer_s": median["optimizer"],
    }


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m fednano.bench train_step", description=__doc__)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--sequence-len", type=int, default=256)
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    chosen = parser.parse_args(arguments)
    figures = measure(chosen.depth, chosen.batch_size, chosen.sequence_len, chosen.vocab_size, chosen.repeats)
    if chosen.json:
        print(json.dumps(figures, indent=2))
        return
    table = Table(title=f"inner step, d{chosen.depth}, {torch.get_num_threads()} threads, medians of {chosen.repeats}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.3f}" if value < 10 else f"{value:,.0f}")
    Console().print(table)
