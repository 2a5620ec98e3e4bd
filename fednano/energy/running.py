"""Running totals: a run's energy and carbon so far, kept from event to event at a cost that does not grow."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from fednano.core.events import (
    ClientDown,
    ClientUp,
    Event,
    LeaseReleased,
    UpdateFolded,
    UpdateRefused,
    WorkDispatched,
)
from fednano.energy.accounting import (
    J_PER_KWH,
    ONE,
    Power,
    Spans,
    Usage,
    clipped,
    integral,
    switched_on,
    union,
)
from fednano.traces.trace import Trace

# Events that change one machine.
MOVES: frozenset[type[Event]] = frozenset(
    (WorkDispatched, UpdateFolded, UpdateRefused, LeaseReleased, ClientUp, ClientDown)
)
CHUNK = 1024  # grid points that are summed at a time


class Sum:
    """What machines of one signal have drawn, weighted by it: joules for a signal of 1, or W·s·g/kWh.

    A machine that draws `watts` from `since` on, with no end yet, adds watts·(S(t) − S(since)) at time t, where S is
    the signal's integral from 0. All of them together are one line in S, so that no machine is visited to add them up.
    """

    def __init__(self, signal: Trace, grid_s: float | None) -> None:
        self.signal = signal
        self._grid_s = grid_s
        self._constant = float(signal.values[0]) if len(signal.values) == 1 else None
        self._rate = self._constant if grid_s is None else None  # of S, if it has one
        self._grid = np.zeros(1)  # S at the multiples of grid_s
        self.ended = 0.0
        self._watts = 0.0
        self._before = 0.0

    def until(self, t: float) -> float:
        """S(t), in units of the signal times seconds."""
        if self._rate is not None:
            return self._rate * t
        if self._grid_s is None:
            return float(self.signal.integral(0.0, t))
        points = math.ceil(t / self._grid_s)
        if self._constant is not None:
            return self._constant * points * self._grid_s
        while points >= len(self._grid):
            new = self.signal.value(np.arange(len(self._grid) - 1, len(self._grid) - 1 + CHUNK) * self._grid_s)
            self._grid = np.append(self._grid, self._grid[-1] + np.cumsum(new * self._grid_s))
        return float(self._grid[points])

    def between(self, start: float, stop: float) -> float:
        """The signal's integral from `start` to `stop`."""
        return self._rate * (stop - start) if self._rate is not None else self.until(stop) - self.until(start)

    def draw(self, watts: float, since: float, sign: int = 1) -> None:
        """From `since` on, `watts` are drawn; with `sign` -1, what was said to be drawn is not."""
        self._watts += sign * watts
        self._before += sign * watts * self.until(since)

    def at(self, t: float) -> float:
        return self.ended + self._watts * self.until(t) - self._before


@dataclass(kw_only=True, slots=True)
class _Machine:
    """One client's machine: what draws now, and what of its past is counted.

    `on_to` and `busy_to` are where the counted spans end; `window` is the last that has closed.
    """

    power: Power
    sums: tuple[Sum, ...]
    up_since: float | None = None
    on_since: float | None = None
    busy_since: float | None = None
    on_to: float = 0.0
    busy_to: float = 0.0
    window: tuple[float, float] = (0.0, 0.0)
    windows_seen: int = 0
    busy_seen: int = 0
    counted: list[float] = field(default_factory=lambda: [0.0, 0.0])  # by sum, of spans that have ended


class RunningEnergy:
    """Energy and carbon of all machines together, as `Usage` has it when they were on and when they computed.

    A span of time is added once, when the totals are next asked for after its end. Where one begins before the end of
    another that is counted already, the machine's spans are counted anew. Work in progress counts from its dispatch, as
    far as its machine is on.

    Args:
        usage: of the same events, which it takes first.
        machines: power and carbon intensity (None: unknown) by client.
        grid_s: step of the integration in seconds; None: exact.
        ready_s: seconds for which a machine idles before each of its windows.
    """

    def __init__(
        self, usage: Usage, machines: dict[str, tuple[Power, Trace | None]], grid_s: float | None, ready_s: float
    ) -> None:
        self._usage = usage
        self._ready_s = ready_s
        self._grid_s = grid_s
        self._energy = Sum(ONE, grid_s)
        carbon = {id(signal): Sum(signal, grid_s) for _, signal in machines.values() if signal is not None}
        self._carbon = list(carbon.values()) if all(signal for _, signal in machines.values()) else None
        self._machines = {
            client: _Machine(power=power, sums=(self._energy, *([carbon[id(signal)]] if signal is not None else [])))
            for client, (power, signal) in machines.items()
        }
        for machine in self._machines.values():  # as long as no client is said to come up
            self._draw_on(machine, 0.0)
        self._presumed = True
        self._moved: dict[str, None] = {}  # clients whose machines have changed, in an order that a replay repeats

    def totals(self) -> tuple[float, float | None]:
        """(kWh, gCO₂) up to the last event; carbon is None if the intensity of a site is unknown."""
        for client in self._moved:
            self._catch_up(client)
        self._moved.clear()
        t = self._usage.t
        carbon = None if self._carbon is None else sum(found.at(t) for found in self._carbon) / J_PER_KWH
        return self._energy.at(t) / J_PER_KWH, carbon

    def add(self, event: Event) -> None:
        """Take an event that `usage` has taken."""
        if type(event) not in MOVES:
            return
        client: str = event.client  # type: ignore[attr-defined]  # as all of these have
        self._moved[client] = None
        if self._presumed and isinstance(event, ClientUp):
            self._presumed = False
            for name, machine in self._machines.items():
                self._draw_on(machine, None)
                self._recount(name, machine)

    def _catch_up(self, client: str) -> None:
        """Count what the client's machine has done since it was last looked at."""
        machine = self._machines[client]
        windows, busy, up_since, working_since = self._usage.recorded(client)
        regular = True
        closed = [machine.window]
        if len(windows) > machine.windows_seen:
            self._draw_on(machine, None)
            machine.up_since = None
            for k in range(machine.windows_seen, len(windows), 2):
                if windows[k + 1] > windows[k]:
                    regular = self._window(machine, max(0.0, windows[k] - self._ready_s), windows[k + 1]) and regular
                    closed.append(machine.window)
            machine.windows_seen = len(windows)
        if up_since is not None and up_since != machine.up_since:
            self._draw_on(machine, max(0.0, up_since - self._ready_s, machine.on_to))
        machine.up_since = up_since
        for k in range(machine.busy_seen, len(busy), 2):
            regular = self._busy(machine, busy[k], busy[k + 1], closed) and regular
        machine.busy_seen = len(busy)
        since = working_since if working_since is None or working_since > machine.busy_to else machine.busy_to
        if since != machine.busy_since:
            self._draw_busy(machine, since)
        if not regular:
            self._recount(client, machine)

    def _window(self, machine: _Machine, start: float, stop: float) -> bool:
        """Count a window that has closed; returns whether it began after all that was counted."""
        machine.window = (start, stop)
        if start < machine.on_to:
            return False
        self._count(machine, machine.power.idle_w, start, stop)
        machine.on_to = max(machine.on_to, stop)
        return True

    def _busy(self, machine: _Machine, start: float, stop: float, closed: Iterable[tuple[float, float]]) -> bool:
        """Count a span of work; returns whether it began after all that was counted, while the machine was on.

        The machine was on while a window was open; `closed` are those that it may have been in.
        """
        if stop <= start:
            return True
        if start < machine.busy_to:
            return False
        self._count(machine, machine.power.train_w - machine.power.idle_w, start, stop)
        machine.busy_to = stop
        if machine.on_since is not None and start >= machine.on_since:
            return True
        return any(opened <= start and stop <= shut for opened, shut in closed)

    def _recount(self, client: str, machine: _Machine) -> None:
        """Count all spans of the machine that have ended anew."""
        windows, worked, _, _ = self._usage.recorded(client)
        busy = union(worked)
        on = union(np.concatenate((switched_on(union(windows), self._ready_s), busy)))
        if machine.on_since is not None:
            on = clipped(on, 0.0, machine.on_since)
        extra_w = machine.power.train_w - machine.power.idle_w
        for k, total in enumerate(machine.sums):
            drawn = machine.power.idle_w * integral(on, total.signal, self._grid_s)
            drawn += extra_w * integral(busy, total.signal, self._grid_s)
            total.ended += drawn - machine.counted[k]
            machine.counted[k] = drawn
        machine.on_to, machine.busy_to = _end(on), _end(busy)

    def _count(self, machine: _Machine, watts: float, start: float, stop: float) -> None:
        for k, found in enumerate(machine.sums):
            drawn = watts * found.between(start, stop)
            found.ended += drawn
            machine.counted[k] += drawn

    def _draw_on(self, machine: _Machine, since: float | None) -> None:
        self._redraw(machine, machine.power.idle_w, machine.on_since, since)
        machine.on_since = since

    def _draw_busy(self, machine: _Machine, since: float | None) -> None:
        self._redraw(machine, machine.power.train_w - machine.power.idle_w, machine.busy_since, since)
        machine.busy_since = since

    def _redraw(self, machine: _Machine, watts: float, before: float | None, since: float | None) -> None:
        for found in machine.sums:
            if before is not None:
                found.draw(watts, before, -1)
            if since is not None:
                found.draw(watts, since)


def _end(spans: Spans) -> float:
    return float(spans[-1, 1]) if len(spans) else 0.0
