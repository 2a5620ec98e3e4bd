"""The measurements. Contenders take turns; one that fails gets no further turn, and the others continue."""

import importlib.util
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fednano_rustbpe
from rich.progress import Progress

from fednano.bench.tokenizer import hostile
from fednano.bench.tokenizer.contenders import FEDNANO, PEERS, TokenizerContender
from fednano.bench.tokenizer.corpus import BenchCorpus
from fednano.bench.tokenizer.process import BenchWorker, ContenderError
from fednano.bench.tokenizer.results import BASE_PATTERN, ResultRow
from fednano.core.clock import wall

HOSTILE_BYTES = 1_000_000
HOSTILE_PEERS = ("tiktoken", "gigatoken")
DECODING_PEERS = ("tiktoken", "gigatoken")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Settings of all measurements. `folder` holds fednano's merges in the other libraries' formats."""

    corpus: BenchCorpus
    folder: Path
    merges: int
    threads: int
    repeats: int
    timeout: float
    progress: Progress

    def in_turns(self, title: str, rows: list[ResultRow], measure: Callable[[ResultRow], dict[str, Any]]) -> None:
        """Measure each row once in each of `repeats` rounds."""
        task = self.progress.add_task(title, total=self.repeats * len(rows))

        def turn(row: ResultRow) -> None:
            answer = measure(row)
            row.digest = answer.pop("digest", row.digest)
            row.measurements.append(answer)

        for _ in range(self.repeats):
            for row in rows:
                guarded(row, turn)
                self.progress.advance(task)

    def worker(self, row: ResultRow) -> BenchWorker:
        return BenchWorker(row.contender, row.threads, self.timeout)


def guarded(row: ResultRow, work: Callable[[ResultRow], object]) -> None:
    """Do the work, unless the row has failed before."""
    if row.error is None:
        try:
            work(row)
        except ContenderError as error:
            row.error = str(error)


def installed(library: str) -> bool:
    spec = importlib.util.find_spec(library)
    # A folder of this name in the current directory is not a package.
    return spec is not None and spec.origin is not None


def known(pattern: str) -> bool:
    """Whether fednano has the pattern."""
    try:
        fednano_rustbpe.regex(pattern)
    except ValueError:
        return False
    return True


def contenders(pattern_of: Callable[[TokenizerContender], str], only: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """(library, pattern) of all contenders in a measurement: first fednano, with each pattern that it shares."""
    peers = [
        (peer.library, pattern_of(peer))
        for peer in PEERS
        if pattern_of(peer) and installed(peer.library) and (not only or peer.library in only)
    ]
    ours = {BASE_PATTERN, *(pattern for _, pattern in peers if known(pattern))}
    return [*((FEDNANO.library, pattern) for pattern in sorted(ours, reverse=True)), *peers]


def prepare(bench: Bench) -> None:
    """Fill the folder. Raises ValueError if fednano cannot train on the corpus."""
    patterns = [pattern for library, pattern in contenders(encoding) if library == FEDNANO.library]
    with BenchWorker(FEDNANO.library, bench.threads, bench.timeout) as worker:
        try:
            worker.ask(
                "prepare",
                folder=str(bench.folder),
                files=bench.corpus.files,
                patterns=patterns,
                merges=bench.merges,
                threads=bench.threads,
            )
        except ContenderError as error:
            raise ValueError(f"fednano cannot train merges for the other measurements: {error}") from None


def training(contender: TokenizerContender) -> str:
    return contender.train_pattern


def encoding(contender: TokenizerContender) -> str:
    return contender.encode_pattern


def train(bench: Bench) -> list[ResultRow]:
    """Training, each time in a new process."""
    corpus = bench.corpus
    rows = [
        ResultRow(work="train", contender=name, pattern=pattern, threads=bench.threads, bytes=corpus.bytes)
        for name, pattern in contenders(training)
    ]

    def measure(row: ResultRow) -> dict[str, Any]:
        with bench.worker(row) as worker:
            return worker.ask(
                "train",
                files=corpus.files,
                alphabet=corpus.alphabet,
                pattern=row.pattern,
                merges=bench.merges,
                threads=row.threads,
            )

    bench.in_turns("train", rows, measure)
    return rows


def cold(bench: Bench) -> list[ResultRow]:
    """Cold starts, each in a new process, after one that is not measured."""
    corpus = bench.corpus
    rows = [
        ResultRow(work="cold", contender=name, pattern=pattern, threads=1, bytes=corpus.encoded_bytes)
        for name, pattern in contenders(encoding)
    ]

    def measure(row: ResultRow) -> dict[str, Any]:
        start = wall()
        with bench.worker(row) as worker:
            answer = worker.ask("cold", folder=str(bench.folder), pattern=row.pattern, files=corpus.encoded)
        return {**answer, "process_s": wall() - start}

    for row in rows:
        guarded(row, measure)
    bench.in_turns("cold", rows, measure)
    return rows


def encode(bench: Bench, threads: list[int]) -> list[ResultRow]:
    """Encoding in warmed-up processes, with each number of threads."""
    size = bench.corpus.encoded_bytes
    found = contenders(encoding)
    return warm(
        bench,
        [
            ResultRow(work="encode", contender=name, pattern=pattern, threads=count, bytes=size)
            for count in threads
            for name, pattern in found
        ],
    )


def decode(bench: Bench) -> list[ResultRow]:
    """Decoding one NumPy row with the ids of all texts to bytes."""
    size = bench.corpus.encoded_bytes
    found = contenders(encoding, DECODING_PEERS)
    return warm(
        bench,
        [ResultRow(work="decode", contender=name, pattern=pattern, threads=1, bytes=size) for name, pattern in found],
    )


def warm(bench: Bench, rows: list[ResultRow]) -> list[ResultRow]:
    """Measure rows in one process each, which stays."""
    with ExitStack() as stack:
        workers = {id(row): stack.enter_context(bench.worker(row)) for row in rows}

        def load(row: ResultRow) -> None:
            row.digest = workers[id(row)].ask(
                "load",
                folder=str(bench.folder),
                pattern=row.pattern,
                threads=row.threads,
                files=bench.corpus.encoded,
            )["digest"]

        for row in rows:
            guarded(row, load)
        bench.in_turns(rows[0].work, rows, lambda row: workers[id(row)].ask(row.work))
    return rows


def attack(bench: Bench) -> list[ResultRow]:
    """Encoding each hostile input, in two sizes."""
    sizes = (HOSTILE_BYTES, 2 * HOSTILE_BYTES)
    found = contenders(encoding, HOSTILE_PEERS)
    rows = []
    for name in hostile.NAMES:
        fresh = [
            ResultRow(work="hostile", contender=library, pattern=pattern, threads=1, bytes=size, input=name)
            for library, pattern in found
            for size in sizes
        ]
        _attack(bench, name, fresh)
        rows += fresh
    return rows


def _attack(bench: Bench, name: str, rows: list[ResultRow]) -> None:
    """Measure in one process per contender and pattern, warmed up with a short piece of the same input."""
    with ExitStack() as stack:
        owners = {(row.contender, row.pattern): row for row in rows}
        workers = {key: stack.enter_context(bench.worker(row)) for key, row in owners.items()}

        def ask(row: ResultRow, size: int) -> dict[str, Any]:
            worker = workers[row.contender, row.pattern]
            return worker.ask("attack", folder=str(bench.folder), pattern=row.pattern, name=name, size=size)

        for row in rows:
            guarded(row, lambda row: ask(row, 1000))
        bench.in_turns(name, rows, lambda row: ask(row, row.bytes))
