"""The share of time in which clients compute over thin links, beside shares that others measured.

The setting is that of the DiLoCo runs in github.com/Adnan082/diloco-measured: 4 workers that never leave, 30.8 million
parameters in fp32, H = 128, and steps of 26.2 ms (4 rows of 512 tokens on one L40S). Its workers average by a ring
all-reduce over links of the given bandwidth. Its shares are those of 180 steps with a single synchronization among
them, so that `per_cycle` converts them to one per 128 steps.

fednano's clients send their update to a server and fetch the new weights: 2 N bytes one after the other, where the ring
sends 1.5 N and receives as much at the same time. Links of the server are not modelled, and neither is time for
encoding, merging or the outer step; the measured runs, which have all that, lose some 0.4 s a round to it.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from fednano.bench.goodput.contenders import COMMON, Contender, combined, every, existing, parsed
from fednano.bench.goodput.played import played
from fednano.core.progress import Progress

CLIENTS, LOCAL_STEPS, STEP_S, LATENCY_S = 4, 128, 0.0262, 0.0005
PUBLISHED = {50.0: 0.1155, 200.0: 0.3609, 1000.0: 0.7152, 5000.0: 0.8700}  # of time, by Mbit/s
PUBLISHED_STEPS = 180  # steps measured, with one synchronization
THIN = "codec=int4 codec@download=bf16"
OVERLAPPED = f"round.overlap={LOCAL_STEPS}"
LINES = (
    *("diloco", "diloco codec=int4", f"diloco {THIN}", f"diloco {OVERLAPPED}", f"diloco {OVERLAPPED} {THIN}"),
    # Where they exist. Without a delay of its own a client trains on until its next task comes.
    *("streaming_diloco", "streaming_diloco strategy.stream.delay=null"),
    *(f"streaming_diloco strategy.stream.delay=null {THIN}", "decoupled_diloco", f"decoupled_diloco {THIN}"),
)


@dataclass(frozen=True)
class LinksRow:
    """A contender's share of time spent computing, by the links' Mbit/s; None where it is not known."""

    contender: str
    computing: Mapping[float, float | None]


def per_cycle(share: float) -> float:
    """The share of time spent computing if there is a synchronization every 128 steps, not among 180."""
    sync = PUBLISHED_STEPS * (1 / share - 1)  # in steps
    return LOCAL_STEPS / (LOCAL_STEPS + sync)


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("of the part links")
    group.add_argument("--links", default="50,200,1000,5000", help="Mbit/s, between commas (default: %(default)s)")
    group.add_argument("--methods", help="strategies with their overrides, between commas (default: DiLoCo's kinds)")
    group.add_argument("--minutes", type=float, default=30.0, help="of virtual time (default: %(default)s)")


def check(chosen: argparse.Namespace) -> None:
    """Raise ValueError for an option out of range."""
    bandwidths(chosen)
    methods(chosen)
    if not chosen.minutes > 0:
        raise ValueError(f"--minutes must be > 0, got {chosen.minutes}; use more")


def bandwidths(chosen: argparse.Namespace) -> list[float]:
    """The Mbit/s of `--links`. Raises ValueError."""
    try:
        found = [float(word) for word in chosen.links.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < mbit_s < math.inf for mbit_s in found):
        raise ValueError(f"--links must be numbers of Mbit/s > 0, got {chosen.links}; write them like 50,200")
    return found


def methods(chosen: argparse.Namespace) -> list[Contender]:
    """What is compared. Raises ValueError."""
    return existing(LINES) if chosen.methods is None else parsed("--methods", chosen.methods)


def measure(chosen: argparse.Namespace, progress: Progress) -> list[LinksRow]:
    """A row per contender, then what was published."""
    setting = (
        *(f"clients={CLIENTS}", "volatility=none", "rounds=null", f"budget.virtual_hours={chosen.minutes / 60}"),
        f"network.latency_s={LATENCY_S}",
    )
    found = []
    for contender in methods(chosen):
        shares: dict[float, float | None] = {}
        words = (*contender.words, *chosen.overrides)
        with contender.named():
            steps = every(LOCAL_STEPS, COMMON, setting, words)
            for mbit_s in bandwidths(chosen):
                link = (f"network.up_mbit_s={mbit_s}", f"network.down_mbit_s={mbit_s}")
                run = combined(COMMON, setting, link, [steps], words)
                shares[mbit_s] = played(run, [STEP_S], progress).computing
        found.append(LinksRow(contender.label, shares))
    published = {mbit_s: PUBLISHED.get(mbit_s) for mbit_s in bandwidths(chosen)}
    converted = {mbit_s: per_cycle(share) if share else None for mbit_s, share in published.items()}
    return [*found, LinksRow("published: DiLoCo, measured", published), LinksRow("the same, per 128 steps", converted)]


def records(rows: Sequence[LinksRow]) -> list[dict[str, object]]:
    """For JSON, whose keys are text."""
    return [{"contender": r.contender, "computing": {f"{k:g}": v for k, v in r.computing.items()}} for r in rows]


def tables(rows: Sequence[LinksRow]) -> list[Table]:
    """The shares, a column for each bandwidth."""
    made = Table(
        title=f"thin links: time spent computing, {CLIENTS} clients, H = {LOCAL_STEPS} of {1e3 * STEP_S:g} ms",
        caption=f"published, by diloco-measured: {PUBLISHED_STEPS} steps with one synchronization; on the virtual "
        "clock encoding, merging and the server's own link take no time",
    )
    made.add_column("Mbit/s", overflow="fold")
    for mbit_s in rows[0].computing:
        made.add_column(f"{mbit_s:g}", justify="right", no_wrap=True)
    for row in rows:
        if row.contender.startswith("published"):
            made.add_section()
        made.add_row(row.contender, *("–" if s is None else f"{100 * s:.1f} %" for s in row.computing.values()))
    return [made]
