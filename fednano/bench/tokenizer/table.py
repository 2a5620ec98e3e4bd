"""Tables of the results, one per measurement."""

from collections.abc import Callable, Mapping

from rich.console import Console
from rich.table import Table

from fednano.bench.tokenizer.results import BenchResult

TableColumn = tuple[str, Callable[[BenchResult], str]]


def number(value: float | None, form: str, scale: float = 1.0) -> str:
    return "" if value is None else format(value * scale, form)


def figure(name: str, form: str, scale: float = 1.0) -> Callable[[BenchResult], str]:
    return lambda result: number(result.figures.get(name), form, scale)


def ratio(result: BenchResult) -> str:
    """The ratio, with the pattern of fednano's row if it differs."""
    other = "" if result.baseline == result.pattern else f" ({result.baseline})"
    return "" if result.ratio is None else f"{result.ratio:.2f}{other}"


def same(result: BenchResult) -> str:
    return {None: "", True: "yes", False: "NO"}[result.same_ids]


CONTENDER: list[TableColumn] = [
    ("contender", lambda result: result.contender),
    ("pattern", lambda result: result.pattern),
]
MEDIAN: list[TableColumn] = [
    ("median s", lambda result: number(result.median_s, ".4f") if result.error is None else "failed"),
    ("MB/s", lambda result: number(result.megabytes_per_s, ".1f")),
    ("ratio", ratio),
]
COLUMNS: dict[str, list[TableColumn]] = {
    "train": [
        *CONTENDER,
        *MEDIAN,
        ("peak MB", figure("peak_bytes", ".0f", 1e-6)),
        ("merges", figure("merges", ".0f")),
    ],
    "encode": [
        *CONTENDER,
        ("threads", lambda result: str(result.threads)),
        *MEDIAN,
        ("× one thread", lambda result: number(result.speedup, ".2f")),
        ("same ids", same),
    ],
    "cold": [
        *CONTENDER,
        *MEDIAN,
        ("ready s", figure("ready_s", ".3f")),
        ("first text ms", figure("first_text_s", ".2f", 1e3)),
        ("process s", figure("process_s", ".3f")),
    ],
    "decode": [*CONTENDER, *MEDIAN, ("same text", same)],
    "hostile": [
        ("input", lambda result: f"{result.bytes / 1e6:g} MB {result.input}"),
        *CONTENDER,
        *MEDIAN,
        ("growth", lambda result: number(result.growth, ".2f")),
        ("same ids", same),
    ],
}
TEXT = ("input", "contender", "pattern")


def show(results: list[BenchResult], titles: Mapping[str, str], missing: Mapping[str, str], console: Console) -> None:
    """Print the results; `titles` by measurement, `missing` with the install command of each absent library."""
    for work, columns in COLUMNS.items():
        of_work = [result for result in results if result.work == work]
        if of_work:
            console.print(table(of_work, titles[work], columns))
        failures = [f"{result.contender} failed: {result.error}" for result in of_work if result.error]
        for failure in dict.fromkeys(failures):
            console.print(failure, highlight=False, markup=False, soft_wrap=True)
    for library, remedy in missing.items():
        console.print(f"{library} is not installed: {remedy}", highlight=False, markup=False, soft_wrap=True)


def table(results: list[BenchResult], title: str, columns: list[TableColumn]) -> Table:
    made = Table(title=title)
    for heading, _ in columns:
        made.add_column(heading, justify="left" if heading in TEXT else "right", no_wrap=True)
    for result in results:
        made.add_row(*(cell(result) for _, cell in columns))
    return made
