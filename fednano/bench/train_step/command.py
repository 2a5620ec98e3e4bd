"""The command: its options and what it writes."""

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

import torch

from fednano.bench.train_step import works
from fednano.bench.train_step.contenders import checked_checkout
from fednano.bench.train_step.table import show
from fednano.report.terminal.printer import printer

LEAST = {"depth": 1, "batch_size": 1, "sequence_len": 2, "vocab_size": 2, "repeats": 1, "threads": 1, "clients": 0}


def main(argv: list[str]) -> None:
    """Print tables; `--json FILE` also writes the figures. Raises ValueError for bad options."""
    options = parsed(argv)
    with tempfile.TemporaryDirectory() as folder:
        setting = works.prepared(options, Path(folder))
        together = options.device == "cpu" and not options.fill
        found = works.step(setting, options) if together else works.alone(setting, options)
        if options.clients:
            found["clients"] = works.clients(setting, options)
    show(found, options, printer())
    if options.json:
        contents = {
            "options": {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()},
            "machine": {"platform": platform.platform(), "cores": os.cpu_count(), "torch": torch.__version__},
            **found,
        }
        options.json.write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")


def parsed(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fednano.bench train_step",
        description="Measure the training step (arch=nanochat, optim=nanochat) beside nanochat's own code.",
    )
    parser.add_argument("--nanochat", type=Path, help="folder of a nanochat checkout to compare with")
    parser.add_argument("--compile", action="store_true", help="measure compiled models too; takes minutes")
    parser.add_argument("--depth", type=int, default=4, help="layers of the model")
    parser.add_argument("--batch-size", type=int, default=8, help="sequences in a batch")
    parser.add_argument("--sequence-len", type=int, default=256, help="tokens per row")
    parser.add_argument("--vocab-size", type=int, default=4096, help="size of the vocabulary")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the matrix products")
    parser.add_argument("--device", default="cpu", help="torch device, such as cpu or cuda; contenders take it in turn")
    parser.add_argument(
        "--fill",
        type=float,
        default=0.0,
        help="share of the device's memory to fill with rows, instead of --batch-size",
    )
    parser.add_argument(
        "--deterministic", action="store_true", help="on cuda, as in a run: only algorithms that repeat bit for bit"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="default: one per core")
    parser.add_argument(
        "--clients",
        type=int,
        default=2,
        help="also compare this many processes of one thread with one process; 0: do not",
    )
    parser.add_argument("--repeats", type=int, default=15, help="measured repeats")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds after which a contender has failed")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    options = parser.parse_args(argv)
    for name, least in LEAST.items():
        if getattr(options, name) < least:
            raise ValueError(
                f"--{name.replace('_', '-')} must be >= {least}, got {getattr(options, name)}; use {least} or more"
            )
    if not 0.0 <= options.fill < 1.0:
        raise ValueError(f"--fill must be >= 0 and < 1, got {options.fill}; use, for example, 0.8")
    if options.clients and (options.fill or options.device != "cpu"):
        options.clients = 0  # processes that share a device would share its memory
    if not options.timeout > 0:
        raise ValueError(f"--timeout must be > 0, got {options.timeout}; use, for example, 600")
    if options.nanochat:
        options.nanochat = checked_checkout(options.nanochat)
    if options.json and not options.json.parent.is_dir():
        raise ValueError(f"--json must be in a folder that exists, got {options.json}; create it or name another file")
    return options
