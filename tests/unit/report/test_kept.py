"""What a run keeps for each round and for each window until its end takes a few bytes."""

import math
import tracemalloc
from collections.abc import Callable

from support.event_logs import volatile_run

from fednano.core.events import ClientUp, RoundMerged, RoundSkipped, UpdateFolded
from fednano.energy.accounting import Usage
from fednano.report.history import History
from fednano.volatility.profiles import Markov
from fednano.volatility.speed import Speed


def grown(work: Callable[[], object]) -> int:
    """Bytes that are allocated during `work` and still there after it."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        work()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_a_window_takes_a_few_bytes() -> None:
    availability = Markov(mean_up_s=8, mean_down_s=3).availability("a", 0, 0)
    availability.upcoming(1_000)
    kept = grown(lambda: availability.upcoming(40_000))
    windows = sum(1 for window in availability.begun(40_000) if window.stop > 1_000)
    assert windows > 3_000
    assert kept < 30 * windows + 2_000


def test_a_piece_of_speed_takes_a_few_bytes() -> None:
    speed = Speed((float(k), 0.5 + (k % 2)) if k < 6_000 else (math.inf, 1.0) for k in range(1, 6_001))
    assert grown(lambda: speed.at(5_000)) < 30 * 5_000 + 2_000


def test_what_is_drawn_and_accounted_takes_a_few_bytes() -> None:
    events = volatile_run(600)
    history, usage = History(), Usage()
    early = next(
        k for k, event in enumerate(events) if isinstance(event, RoundMerged | RoundSkipped) and event.round == 96
    )

    def feed(some: list) -> None:  # type: ignore[type-arg]
        for event in some:
            history.add(event)
            usage.add(event)

    feed(events[:early])
    late = events[early:]
    kept = grown(lambda: feed(late))
    rounds, work, windows = (
        sum(isinstance(event, kinds) for event in late)
        for kinds in (RoundMerged | RoundSkipped, UpdateFolded, ClientUp)
    )
    # Columns grow ahead of need, and up to 32 rounds' work is not packed yet.
    assert kept < 1.2 * (120 * rounds + 50 * work + 45 * windows) + 30_000
