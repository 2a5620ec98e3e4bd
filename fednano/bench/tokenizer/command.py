"""The command: its options, and the order of the measurements."""

import argparse
import importlib.metadata
import json
import math
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fednano.bench.tokenizer import corpus, table, works
from fednano.bench.tokenizer.contenders import CONTENDERS, PEERS
from fednano.bench.tokenizer.results import ResultRow, results
from fednano.report.terminal.printer import printer

# 256 bytes and fednano's special tokens, which other libraries do not have.
NO_MERGES = 261
WORKS = ("train", "encode", "threads", "cold", "decode", "hostile")


def main(argv: list[str]) -> None:
    """Print tables of ratios; `--json FILE` also writes every measurement. Raises ValueError for bad options."""
    options = parsed(argv)
    missing = {
        peer.library: f"uv run --with {peer.library} python -m fednano.bench tokenizer"
        for peer in PEERS
        if not works.installed(peer.library)
    }
    with tempfile.TemporaryDirectory() as folder:
        (copies := Path(folder) / "texts").mkdir()
        texts = corpus.write(options.texts, options.megabytes, copies)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            bench = works.Bench(
                corpus=texts,
                folder=Path(folder),
                merges=options.vocab_size - NO_MERGES,
                threads=options.threads,
                repeats=options.repeats,
                timeout=options.timeout,
                progress=progress,
            )
            found = results(run(bench, options.work))
    table.show(found, titles(bench), missing, printer())
    if options.json:
        contents = {
            "options": {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()},
            "machine": {"python": platform.python_version(), "platform": platform.platform(), "cores": os.cpu_count()},
            "corpus": {
                "texts": len(texts.files),
                "bytes": texts.bytes,
                "sha256": texts.sha256,
                "texts_encoded": len(texts.encoded),
                "bytes_encoded": texts.encoded_bytes,
            },
            "versions": {library: version(library) for library in CONTENDERS if library not in missing},
            "missing": missing,
            "results": [asdict(result) for result in found],
        }
        options.json.write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")


def parsed(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fednano.bench tokenizer",
        description="Compare the tokenizer's speed with every other library that is installed, as ratios of medians.",
    )
    parser.add_argument("--texts", type=Path, help="folder of text files (default: installed Python sources)")
    parser.add_argument(
        "--megabytes",
        type=float,
        default=10.0,
        help="text to train on; at most 10 MB are encoded (default: %(default)s)",
    )
    parser.add_argument(
        "--work", default=",".join(WORKS), help="measurements to make, separated by commas (default: %(default)s)"
    )
    parser.add_argument("--vocab-size", type=int, default=32768, help="size of the vocabulary")
    parser.add_argument("--threads", type=int, default=2, help="threads for training and for parallel encoding")
    parser.add_argument("--repeats", type=int, default=5, help="measured repeats")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds after which a library has failed")
    parser.add_argument("--json", type=Path, help="file to write all measurements to")
    options = parser.parse_args(argv)
    options.work = options.work.split(",")
    if unknown := [work for work in options.work if work not in WORKS]:
        raise ValueError(f"--work must be some of {','.join(WORKS)}, got {','.join(unknown)}; choose among them")
    for name, least in (("vocab_size", NO_MERGES + 1), ("threads", 1), ("repeats", 1)):
        if getattr(options, name) < least:
            raise ValueError(
                f"--{name.replace('_', '-')} must be >= {least}, got {getattr(options, name)}; use {least} or more"
            )
    for name in ("megabytes", "timeout"):
        if not 0 < getattr(options, name) < math.inf:
            raise ValueError(f"--{name} must be > 0, got {getattr(options, name)}; use, for example, 10")
    if options.json and not options.json.parent.is_dir():
        raise ValueError(f"--json must be in a folder that exists, got {options.json}; create it or name another file")
    return options


def run(bench: works.Bench, chosen: list[str]) -> list[ResultRow]:
    """The results of all chosen measurements."""
    steps: dict[str, Callable[[], list[ResultRow]]] = {
        "train": lambda: works.train(bench),
        "encode": lambda: works.encode(bench, [1]),
        "threads": lambda: works.encode(bench, sorted({1, bench.threads})),
        "cold": lambda: works.cold(bench),
        "decode": lambda: works.decode(bench),
        "hostile": lambda: works.attack(bench),
    }
    if set(chosen) - {"train"}:
        works.prepare(bench)
    # "threads" includes encoding with one thread.
    left_out = {"encode"} if "threads" in chosen else set()
    return [row for name, step in steps.items() if name in chosen and name not in left_out for row in step()]


def titles(bench: works.Bench) -> dict[str, str]:
    texts = bench.corpus
    common = f"vocabulary {bench.merges + NO_MERGES}, median of {bench.repeats}"
    encoded = f"{texts.encoded_bytes / 1e6:.1f} MB in {len(texts.encoded)} texts, {common}"
    return {
        "train": f"train: {texts.bytes / 1e6:.1f} MB in {len(texts.files)} texts, {bench.threads} threads, {common}",
        "encode": f"encode, warm: {encoded}",
        "cold": f"import, load and encode in a new process: {encoded}",
        "decode": f"decode from NumPy: {encoded}",
        "hostile": f"encode hostile input, growth over half the size: {common}",
    }


def version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None
