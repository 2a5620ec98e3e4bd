"""From measurements to medians and ratios."""

import statistics
from dataclasses import dataclass, field

BASE_PATTERN = "gpt4"


@dataclass(kw_only=True)
class ResultRow:
    """One contender in one measurement: seconds and other figures of each repeat."""

    work: str
    contender: str
    pattern: str
    threads: int
    bytes: int
    input: str = "corpus"
    measurements: list[dict[str, float]] = field(default_factory=list)
    digest: str = ""  # of the resulting ids or bytes
    error: str | None = None

    def median(self, figure: str = "seconds") -> float | None:
        """None after an error."""
        if self.error is not None or not self.measurements:
            return None
        return statistics.median(measurement[figure] for measurement in self.measurements)


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """A row of the tables and of the JSON; the package's docstring describes it."""

    work: str
    input: str
    bytes: int
    contender: str
    pattern: str
    threads: int
    measurements: list[dict[str, float]]
    median_s: float | None
    megabytes_per_s: float | None
    figures: dict[str, float | None]
    ratio: float | None
    baseline: str | None
    speedup: float | None
    growth: float | None
    same_ids: bool | None
    error: str | None


def results(rows: list[ResultRow]) -> list[BenchResult]:
    """Each row compared with fednano's of the same work, input, threads and pattern, or else pattern "gpt4"."""
    return [_result(row, rows) for row in rows]


def _result(row: ResultRow, rows: list[ResultRow]) -> BenchResult:
    alike = [other for other in rows if (other.work, other.input) == (row.work, row.input)]
    own = [other for other in alike if (other.contender, other.pattern) == (row.contender, row.pattern)]
    baseline = _baseline(row, alike)
    median, baseline_median = row.median(), baseline.median() if baseline else None
    one_thread = next((other.median() for other in own if other.threads == 1 < row.threads), None)
    half = next((other.median() for other in own if other.bytes * 2 == row.bytes), None)
    return BenchResult(
        work=row.work,
        input=row.input,
        bytes=row.bytes,
        contender=row.contender,
        pattern=row.pattern,
        threads=row.threads,
        measurements=row.measurements,
        median_s=median,
        megabytes_per_s=_quotient(row.bytes / 1e6, median),
        figures={name: row.median(name) for name in (row.measurements or [{}])[0] if name != "seconds"},
        ratio=_quotient(median, baseline_median),
        baseline=baseline.pattern if baseline else None,
        speedup=_quotient(one_thread, median),
        growth=_quotient(median, half),
        same_ids=_same(row, baseline),
        error=row.error,
    )


def _baseline(row: ResultRow, alike: list[ResultRow]) -> ResultRow | None:
    ours = {
        other.pattern: other
        for other in alike
        if (other.contender, other.threads, other.bytes) == ("fednano", row.threads, row.bytes)
    }
    return ours.get(row.pattern, ours.get(BASE_PATTERN))


def _quotient(over: float | None, under: float | None) -> float | None:
    return None if over is None or not under else over / under


def _same(row: ResultRow, baseline: ResultRow | None) -> bool | None:
    if baseline is None or baseline is row or baseline.pattern != row.pattern or not (row.digest and baseline.digest):
        return None
    return row.digest == baseline.digest
