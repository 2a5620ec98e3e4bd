"""Speed of the tokenizer's training and encoding beside tiktoken and tokenizers, where they are installed.

All contenders see the same texts and the same vocabulary, and take turns in one process; the figures are
medians. A ratio is the contender's time divided by fednano's. `same ids` compares with fednano's.
"""

import argparse
import ast
import importlib.util
import json
import os
import statistics
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fednano_rustbpe
import numpy as np
from rich.console import Console
from rich.table import Table

from fednano.clock import wall
from fednano.tokenizer import Tokenizer

Texts = list[str]
Run = Callable[[Texts], Any]


@dataclass(frozen=True)
class Result:
    """One contender at one kind of work; `ratio` is its median time over fednano's."""

    work: str
    contender: str
    threads: int
    seconds: tuple[float, ...]
    median_s: float
    megabytes_per_s: float
    ratio: float
    same_ids: bool | None


def main(argv: list[str]) -> None:
    """Prints a table of ratios; `--json FILE` also writes every measurement."""
    parser = argparse.ArgumentParser(prog="python -m fednano.bench tokenizer", description=__doc__)
    parser.add_argument("--texts", type=Path, help="folder of .txt files; else Python's docstrings")
    parser.add_argument("--megabytes", type=float, default=10.0, help="read at most so much")
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2, help="for training and for encoding in parallel")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    # Read by tokenizers when it starts its threads.
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)

    texts = read_texts(options.texts, options.megabytes)
    tokenizer = Tokenizer.train(texts, options.vocab_size, threads=options.threads)
    runs = trainers(options.vocab_size, options.threads)
    results = measure("train", runs, texts, threads=options.threads, repeats=options.repeats, same_ids={})
    for threads in sorted({1, options.threads}):
        runs = encoders(tokenizer, threads)
        same = agreement(runs, texts)
        results += measure("encode", runs, texts, threads=threads, repeats=options.repeats, same_ids=same)
    show(results, texts)
    if options.json:
        corpus = {"texts": len(texts), "bytes": byte_count(texts), "vocab_size": tokenizer.vocab_size}
        report = {"corpus": corpus, "results": [asdict(result) for result in results]}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def read_texts(folder: Path | None, megabytes: float) -> Texts:
    """Texts of about `megabytes` in all. Raises ValueError if there are none."""
    texts: Texts = []
    left = megabytes * 1e6
    for text in docstrings() if folder is None else folder_texts(folder):
        texts.append(text)
        left -= len(text.encode())
        if left <= 0:
            break
    if not texts:
        raise ValueError(f"--texts={folder} holds no .txt file; name a folder that does")
    return texts


def folder_texts(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.txt")):
        yield path.read_text(encoding="utf-8")


def docstrings() -> Iterator[str]:
    """All docstrings of each module of the standard library, as one text each."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" in path.parts:
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # broken on purpose, for the library's own tests
            continue
        found = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
        if any(found):
            yield "\n\n".join(filter(None, found))


def byte_count(texts: Texts) -> int:
    return sum(len(text.encode()) for text in texts)


def trainers(vocab_size: int, threads: int) -> dict[str, Run]:
    runs: dict[str, Run] = {"fednano": lambda texts: Tokenizer.train(texts, vocab_size, threads=threads)}
    if importlib.util.find_spec("tokenizers"):
        from fednano.bench import huggingface

        pattern = fednano_rustbpe.regex("gpt4")
        runs["tokenizers"] = lambda texts: huggingface.train(texts, vocab_size, pattern)
    return runs


def encoders(tokenizer: Tokenizer, threads: int) -> dict[str, Run]:
    """Functions from texts to all their ids in one row."""
    runs: dict[str, Run] = {"fednano": lambda texts: tokenizer.encode_batch(texts, threads)[0]}
    if importlib.util.find_spec("tiktoken"):
        import tiktoken

        ranks, specials, pattern = tokenizer.to_tiktoken()
        peer = tiktoken.Encoding("peer", pat_str=pattern, mergeable_ranks=ranks, special_tokens=specials)
        runs["tiktoken"] = lambda texts: peer.encode_ordinary_batch(texts, num_threads=threads)
    if importlib.util.find_spec("tokenizers"):
        from fednano.bench import huggingface

        runs["tokenizers"] = huggingface.encoder(tokenizer, threads)
    return runs


def measure(
    work: str,
    runs: dict[str, Run],
    texts: Texts,
    *,
    threads: int,
    repeats: int,
    same_ids: dict[str, bool | None],
) -> list[Result]:
    """Each contender `repeats` times, in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = wall()
            run(texts)
            seconds[name].append(wall() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return [
        Result(
            work=work,
            contender=name,
            threads=threads,
            seconds=tuple(seconds[name]),
            median_s=medians[name],
            megabytes_per_s=byte_count(texts) / 1e6 / medians[name],
            ratio=medians[name] / medians["fednano"],
            same_ids=same_ids.get(name),
        )
        for name in runs
    ]


def agreement(runs: dict[str, Run], texts: Texts) -> dict[str, bool | None]:
    """Whether each contender's ids are fednano's; the warm-up of all of them."""
    expected = runs["fednano"](texts)
    return {name: np.array_equal(expected, row(run(texts))) for name, run in runs.items()}


def row(ids: Any) -> Any:
    """One array of what a contender's encoder gives: an array, lists, or encodings that hold lists."""
    if isinstance(ids, np.ndarray):
        return ids
    return np.concatenate([np.asarray(getattr(text, "ids", text), np.uint32) for text in ids])


def show(results: list[Result], texts: Texts) -> None:
    table = Table(title=f"{byte_count(texts) / 1e6:.1f} MB in {len(texts)} texts")
    for heading in ("work", "threads", "contender", "median s", "MB/s", "ratio", "same ids"):
        table.add_column(heading, justify="left" if heading in ("work", "contender") else "right")
    for result in results:
        same = {None: "", True: "yes", False: "NO"}[result.same_ids]
        figures = (f"{result.median_s:.3f}", f"{result.megabytes_per_s:.1f}", f"{result.ratio:.2f}")
        table.add_row(result.work, str(result.threads), result.contender, *figures, same)
    Console().print(table)
