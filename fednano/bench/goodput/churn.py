"""Goodput of strategies under churn: half of the clients are down at any time, every departure is a crash."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from rich.table import Table

from fednano.bench.goodput.contenders import COMMON, Contender, combined, every, existing, parsed
from fednano.bench.goodput.played import LOSSES, Played, played
from fednano.core.progress import Progress

LINES = (
    *("diloco", "diloco round.local_steps=dynamic", "diloco strategy.grace={grace:g} strategy.late=next"),
    *("fedbuff", "async_diloco"),
    *("streaming_diloco", "decoupled_diloco"),  # where they exist
)
AT_LEAST = {"seeds": 1, "clients": 1, "local_steps": 1}
ABOVE_ZERO = ("hours", "up_s", "down_s", "step_s", "mbit_s")


@dataclass(frozen=True, kw_only=True)
class ChurnRow:
    """A contender's runs, one per seed; figures but the goodputs are their medians."""

    contender: str
    goodputs: list[float]
    goodput: float
    computing: float
    tokens: float
    merges: float
    hours: float
    losses: dict[str, float]

    @classmethod
    def of(cls, label: str, runs: Sequence[Played]) -> "ChurnRow":
        def middle(figure: Callable[[Played], float]) -> float:
            return median(map(figure, runs))

        return cls(
            contender=label,
            goodputs=[run.goodput for run in runs],
            goodput=middle(lambda run: run.goodput),
            computing=middle(lambda run: run.computing),
            tokens=middle(lambda run: run.tokens),
            merges=middle(lambda run: run.merges),
            hours=middle(lambda run: run.hours),
            losses={cause: middle(lambda run, cause=cause: run.losses[cause]) for cause in LOSSES},  # type: ignore[misc]
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("of the part churn")
    group.add_argument(
        "--strategies", help="strategies with their overrides, between commas (default: barriers and none)"
    )
    group.add_argument("--seeds", type=int, default=3, help="runs of each (default: %(default)s)")
    group.add_argument("--clients", type=int, default=8, help="number of clients (default: %(default)s)")
    group.add_argument("--hours", type=float, default=24.0, help="of virtual time (default: %(default)s)")
    group.add_argument("--up-s", type=float, default=1800.0, help="mean time up (default: %(default)s)")
    group.add_argument("--down-s", type=float, default=1800.0, help="mean time down (default: %(default)s)")
    group.add_argument("--local-steps", type=int, default=50, help="H (default: %(default)s)")
    group.add_argument("--step-s", type=float, default=1.0, help="of the fastest client (default: %(default)s)")
    group.add_argument("--slowest", type=float, default=4.0, help="times that for the slowest (default: %(default)s)")
    group.add_argument("--mbit-s", type=float, default=1000.0, help="of every link (default: %(default)s)")


def check(chosen: argparse.Namespace) -> None:
    """Raise ValueError for an option out of range."""
    contenders(chosen)
    for key, least in AT_LEAST.items():
        if getattr(chosen, key) < least:
            raise ValueError(f"--{key.replace('_', '-')} must be >= {least}, got {getattr(chosen, key)}; use more")
    for key in ABOVE_ZERO:
        if not getattr(chosen, key) > 0:
            raise ValueError(f"--{key.replace('_', '-')} must be > 0, got {getattr(chosen, key)}; use more")
    if not chosen.slowest >= 1:
        raise ValueError(f"--slowest must be >= 1, got {chosen.slowest}; give how many times longer it takes")


def contenders(chosen: argparse.Namespace) -> list[Contender]:
    """What is compared. By default a round waits for a fifth of the fastest client's work once it has an update."""
    if chosen.strategies is not None:
        return parsed("--strategies", chosen.strategies)
    return existing(line.format(grace=chosen.local_steps * chosen.step_s / 5) for line in LINES)


def measure(chosen: argparse.Namespace, progress: Progress) -> list[ChurnRow]:
    """A row per contender. All see the same clients come and go.

    The times that clients take for a step are evenly spaced, from the fastest to the slowest.
    """
    last = max(1, chosen.clients - 1)
    step_s = [chosen.step_s * (1 + (chosen.slowest - 1) * i / last) for i in range(chosen.clients)]
    rows = []
    for contender in contenders(chosen):
        with contender.named():
            words = overrides(chosen, contender)
            runs = [played([*words, f"seed={seed}"], step_s, progress) for seed in range(chosen.seeds)]
        rows.append(ChurnRow.of(contender.label, runs))
    return rows


def overrides(chosen: argparse.Namespace, contender: Contender) -> list[str]:
    """Of a contender's runs, but for the seed."""
    setting = (
        *(f"clients={chosen.clients}", "rounds=null", f"budget.virtual_hours={chosen.hours}"),
        *("volatility=markov", "volatility.exit=crash"),
        *(f"volatility.mean_up_s={chosen.up_s}", f"volatility.mean_down_s={chosen.down_s}"),
        *(f"network.up_mbit_s={chosen.mbit_s}", f"network.down_mbit_s={chosen.mbit_s}"),
    )
    words = (*contender.words, *chosen.overrides)
    return combined(COMMON, setting, [every(chosen.local_steps, COMMON, setting, words)], words)


def records(rows: Sequence[ChurnRow]) -> list[dict[str, object]]:
    """For JSON."""
    return [asdict(row) for row in rows]


def tables(rows: Sequence[ChurnRow], chosen: argparse.Namespace) -> list[Table]:
    """What was merged, and what the rest of the time up went to."""
    up = chosen.up_s / (chosen.up_s + chosen.down_s)
    made = Table(
        title=f"churn: {max(row.hours for row in rows):.1f} h, {chosen.clients} clients that are up {up:.0%} of the "
        f"time, steps of {chosen.step_s:g} to {chosen.step_s * chosen.slowest:g} s, H = {chosen.local_steps}",
        caption=f"medians of {chosen.seeds}; goodput: tokens merged, as a share of those that clients had time for; "
        "computing: share of their time",
    )
    lost = Table(title="goodput lost by cause", caption="medians, which need not add up to what is missing above")
    for table, names in (
        (made, ("strategy", "goodput", "range", "computing", "M tokens", "merges")),
        (lost, ("strategy", *LOSSES)),
    ):
        for name in names:
            left = name == "strategy"
            table.add_column(name, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    for row in rows:
        spread = f"{100 * min(row.goodputs):.1f}–{100 * max(row.goodputs):.1f}"
        counts = (f"{row.tokens / 1e6:,.1f}", f"{row.merges:,.0f}")
        made.add_row(row.contender, f"{100 * row.goodput:.1f} %", spread, f"{100 * row.computing:.1f} %", *counts)
        lost.add_row(row.contender, *(f"{100 * row.losses[cause]:.1f} %" for cause in LOSSES))
    return [made, lost]
