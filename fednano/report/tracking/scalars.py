"""Scalars: the figures of a row of `metrics.jsonl` under the names that loggers chart them by."""

from collections.abc import Iterator

from fednano.report.metrics import ROUND, MetricsRow

COSTS = ("t", "energy_kwh", "co2_g", "bytes_up", "bytes_down", "wall_run_s")
NO_CURVES = ("type", "tokens", "round", "merges")


def scalars(row: MetricsRow) -> Iterator[tuple[str, float]]:
    """The names and values of a row: `round/…`, `evaluation/…` and, for the run's costs up to a round, `cost/…`."""
    for key, value in row.items():
        if key in NO_CURVES or value is None or (key in COSTS and row["type"] != ROUND):
            continue
        yield f"{'cost' if key in COSTS else row['type']}/{key}", value
