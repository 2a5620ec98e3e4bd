"""The running totals of energy and carbon, beside an account of the same events that looks at every span anew."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.event_logs import volatile_run
from support.made_events import update_folded

from fednano.core.events import (
    ClientDown,
    ClientUp,
    Event,
    LeaseReleased,
    RunStarted,
    UpdateRefused,
    WorkDispatched,
)
from fednano.energy.accounting import (
    Consumption,
    Power,
    Signals,
    Usage,
    consumption,
    switched_on,
    union,
)
from fednano.energy.running import CHUNK, RunningEnergy, Sum
from fednano.traces.trace import Trace

CLIENTS = ("a", "b", "c")
WAVE = Trace([0.0, 7.0, 20.0], [100.0, 500.0, 50.0], "linear", 31.0, repeat=True)
SITES = {"a": (Power(10, 100), WAVE), "b": (Power(20, 300), Trace([0.0], [400.0])), "c": (Power(5, 50), WAVE)}


def started(clients: tuple[str, ...] = CLIENTS) -> RunStarted:
    return next(event for event in volatile_run(1, clients=clients) if isinstance(event, RunStarted))


def account(usage: Usage, sites: dict[str, tuple[Power, Trace]], grid_s: float | None, ready_s: float) -> Consumption:
    """The consumption of all machines until now, from all of their spans."""
    total = Consumption()
    for client in usage.clients:
        busy = usage.busy(client)
        on = union(np.concatenate((switched_on(usage.windows(client), ready_s), busy)))
        power, carbon = sites[client]
        total += consumption(on, busy, power, Signals(carbon), grid_s)
    return total


def tallied(
    events: Sequence[Event], grid_s: float | None = None, ready_s: float = 0.0, every: int = 1
) -> tuple[Usage, RunningEnergy]:
    usage = Usage()
    usage.add(events[0])
    running = RunningEnergy(usage, SITES, grid_s, ready_s)
    for k, event in enumerate(events[1:]):
        usage.add(event)
        running.add(event)
        if k % every == 0:
            running.totals()
    return usage, running


moves = st.lists(
    st.tuples(
        st.sampled_from(["up", "drain", "crash", "work", "fold", "fold", "refuse", "empty", "expire"]),
        st.sampled_from(CLIENTS),
        st.integers(0, 4),  # seconds that pass before
        st.integers(0, 12),  # seconds that the work took
    ),
    max_size=40,
)


@given(moves, st.sampled_from([None, 2.0]), st.sampled_from([0.0, 3.0]), st.sampled_from([1, 3, 100]))
def test_whatever_happens_the_total_is_that_of_all_spans(
    happened: list[tuple[str, str, int, int]], grid_s: float | None, ready_s: float, every: int
) -> None:
    """At the end all clients leave, so that nothing is under way; before, work in progress is near enough."""
    t, lease = 0.0, 0
    events: list[Event] = [started()]
    held: dict[str, list[int]] = {client: [] for client in CLIENTS}
    up: set[str] = set()
    for move, client, after, took in happened:
        t += after
        if move == "up" and client not in up:
            up.add(client)
            events.append(ClientUp(t=t, client=client))
        elif move in ("drain", "crash") and client in up:
            up.discard(client)
            held[client].clear()
            events.append(ClientDown(t=t, client=client, exit=move))
        elif move == "work":
            lease += 1
            held[client].append(lease)
            events.append(WorkDispatched(t=t, round=0, client=client, lease=lease, version=0, steps=1, bytes=1))
        elif held[client]:
            number = held[client].pop() if took % 2 else held[client].pop(0)
            if move == "fold":
                when = {"t": t, "busy_from": max(0.0, t - took), "busy_until": t}
                events.append(update_folded(client=client, lease=number, **when))
            elif move == "expire":
                events.append(LeaseReleased(t=t, round=0, client=client, lease=number, reason="crash"))
            else:
                reason = "empty" if move == "empty" else "stale"
                events.append(UpdateRefused(t=t, round=0, client=client, lease=number, reason=reason, bytes=1))
    for client in CLIENTS:
        events += [LeaseReleased(t=t, round=0, client=client, lease=n, reason="end") for n in held[client]]
        if client in up:
            events.append(ClientDown(t=t, client=client, exit="drain"))
    usage, running = tallied(events, grid_s, ready_s, every)
    whole = account(usage, SITES, grid_s, ready_s)
    assert running.totals() == pytest.approx((whole.kwh, whole.co2_g), rel=1e-9, abs=1e-12)


def test_what_is_under_way_counts_as_far_as_it_is() -> None:
    """On since 0, training since 4, at 10 s: 10 s of 20 W and 6 s of 280 W more."""
    events = [
        started(),
        ClientUp(t=0.0, client="b"),
        WorkDispatched(t=4.0, round=0, client="b", lease=1, version=0, steps=1, bytes=1),
        ClientUp(t=10.0, client="c"),
    ]
    _, running = tallied(events)
    joules = 10 * 20 + 6 * 280
    assert running.totals() == pytest.approx((joules / 3.6e6, 400 * joules / 3.6e6))


def test_an_unknown_intensity_leaves_the_carbon_unknown() -> None:
    usage = Usage()
    usage.add(started())
    running = RunningEnergy(usage, {client: (Power(1, 2), None) for client in CLIENTS}, None, 0.0)
    assert running.totals() == (0.0, None)


@pytest.mark.parametrize("t", [0.0, 1.5, 2.0, 30.5, 2.0 * CHUNK, 2.0 * CHUNK + 1, 7.0 * CHUNK])
def test_an_integral_on_a_grid_is_that_of_the_account(t: float) -> None:
    used = consumption(union([0.0, t]), union([]), Power(3.6e6, 0), Signals(WAVE), 2.0)
    assert Sum(WAVE, 2.0).until(t) == pytest.approx(used.co2_g)
