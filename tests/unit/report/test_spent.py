"""What clients spent their time on: every second of their time up is counted once, and for the right reason."""

import math
from pathlib import Path

import pytest
from support.event_logs import volatile_run
from support.made_events import round_merged, update_folded
from support.pages import page_of, write_run

from fednano.core.events import (
    ClientDown,
    ClientUp,
    Event,
    RoundSkipped,
    UpdateRefused,
    WorkDispatched,
)
from fednano.report.figures import figures_of
from fednano.report.spent import TimeSpent


def up(t: float, client: str = "a") -> Event:
    return ClientUp(t=t, client=client)


def down(t: float, exit: str, client: str = "a") -> Event:
    return ClientDown(t=t, client=client, exit=exit)


def given(t: float, lease: int, round: int = 0, client: str = "a") -> Event:
    return WorkDispatched(t=t, round=round, client=client, lease=lease, version=0, steps=1, bytes=1)


def submitted(
    t: float, lease: int, work: tuple[float, float], ahead: tuple[float, ...] = (), round: int = 0, client: str = "a"
) -> Event:
    when = {"t": t, "busy_from": work[0], "busy_until": work[1], "ahead": ahead}
    return update_folded(round=round, client=client, lease=lease, **when)


def refused(t: float, lease: int) -> Event:
    return UpdateRefused(t=t, round=0, client="a", lease=lease, reason="outlying", bytes=1)


def merged(t: float, *leases: int) -> Event:
    return round_merged(*leases, t=t)


def spent(*events: Event, end: float) -> TimeSpent:
    found = TimeSpent()
    for event in events:
        found.add(event)
    found.finish(end)
    return found


def test_a_round_is_a_transfer_steps_a_transfer_and_a_wait() -> None:
    found = spent(up(0), given(1, 0), submitted(10, 0, (3, 8)), merged(12, 0), end=12)
    assert (found.waiting, found.transfers, found.merged, found.up_s) == (1 + 2, 2 + 2, 5, 12)


def test_overlapped_steps_cover_transfers_and_waits() -> None:
    first = up(0), given(0, 0), submitted(10, 0, (1, 8)), merged(11, 0), given(11, 1)
    found = spent(*first, submitted(20, 1, (12, 18), ahead=(8, 10.5)), merged(20, 1), end=20)
    assert found.merged == 7 + 2.5 + 6
    assert found.transfers == 1 + 1 + 2  # the first update's way is covered whole
    assert found.waiting == 0.5
    assert found.up_s == 20


def test_work_is_lost_with_a_crash() -> None:
    found = spent(up(0), given(1, 0), down(6, "crash"), end=9)
    assert (found.waiting, dict(found.lost), found.up_s) == (1, {"crash": 5}, 6)


def test_a_refused_update_is_lost_with_its_transfers() -> None:
    found = spent(up(0), given(0, 0), refused(7, 0), down(8, "drain"), end=9)
    assert (dict(found.lost), found.waiting) == ({"refused": 7}, 1)


def test_a_task_that_is_replaced_has_expired() -> None:
    found = spent(up(0), given(0, 0), given(4, 1), refused(5, 0), down(9, "drain"), end=9)
    assert dict(found.lost) == {"expired": 4, "left": 5}


def test_steps_of_a_skipped_round_are_lost() -> None:
    skipped = RoundSkipped(t=9, round=0, updates=1, reason="few")
    found = spent(up(0), given(0, 0), submitted(9, 0, (1, 8)), skipped, end=9)
    assert (dict(found.lost), found.transfers, found.merged) == ({"skipped": 7}, 2, 0)


def test_an_update_that_comes_after_its_client_has_left_is_not_lost() -> None:
    found = spent(up(0), given(0, 0), down(10, "drain"), submitted(11, 0, (2, 9)), merged(12, 0), end=12)
    assert (dict(found.lost), found.merged, found.transfers, found.up_s) == ({"left": 0}, 7, 3, 10)


def test_what_is_open_at_the_end_is_unfinished() -> None:
    found = spent(up(0), given(0, 0), submitted(5, 0, (1, 4)), given(5, 1), end=8)
    assert (found.unfinished, found.transfers) == (3 + 3, 2)


@pytest.mark.parametrize("seed", range(5))
def test_every_second_up_is_counted_once(seed: int) -> None:
    events = volatile_run(rounds=40, seed=seed)
    figures = figures_of(events)
    up_s = sum(client.up_seconds(figures.t) for client in figures.clients.values())
    assert spent(*events, end=figures.t).up_s == pytest.approx(up_s)


def test_the_report_says_what_took_the_time_and_what_helps(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path, volatile_run(rounds=20)))
    (section,) = page.texts("section", id="time")
    shares = [float(text.split(" %")[0]) for text in page.texts("dd") if " % " in text]
    assert math.isclose(sum(shares), 100, abs_tol=0.3)
    assert "lost work (refused updates, crashes" in section or "lost work (crashes" in section
    assert "round.local_steps=dynamic" in section
