"""The meter: energy, carbon and cost of a run and of its baselines, computed from the run's events."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from fednano.core.events import Event, RunStarted
from fednano.core.inner_step import InnerStep
from fednano.energy.accounting import (
    Consumption,
    Power,
    Spans,
    Usage,
    clipped,
    consumption,
    intersection,
    switched_on,
    union,
)
from fednano.energy.baselines import Baseline, BaselineSite, always_on, oracle, pausing
from fednano.energy.running import RunningEnergy
from fednano.runtime.parts import Parts
from fednano.traces.trace import Trace
from fednano.volatility.traced import Traced

MAX_SITES = 32  # sites with baselines of their own: one site would need years for the tokens of a thousand clients
MAX_CURVES, CURVE_POINTS = 12, 600


@dataclass
class Counted:
    """A client's consumption before `until`, in total and inside its windows; later events do not change it."""

    until: float = 0.0
    used: Consumption = field(default_factory=Consumption)
    inside: Consumption = field(default_factory=Consumption)


class Meter:
    """A `Sink` that records when machines worked.

    Raises ValueError at the first event after the end of a carbon or price trace.
    """

    def __init__(self, parts: Parts) -> None:
        self._supply = parts.energy
        self._hardware = parts.hardware
        self._profile = parts.volatility
        self._names = parts.settings.names
        self._seed = parts.settings.seed
        self._ends = self._supply.ends(self._profile)
        self._usage = Usage()
        self._counted: dict[str, Counted] = {}
        self._running: RunningEnergy | None = None

    def event(self, event: Event) -> None:
        if event.t > self._ends:
            self._supply.require(event.t, self._profile)
        self._usage.add(event)
        if self._running:
            self._running.add(event)
        elif isinstance(event, RunStarted):
            sites = {client: self._site(k) for k, client in enumerate(event.clients)}
            machines = {client: (site.power, site.signals.carbon) for client, site in sites.items()}
            self._running = RunningEnergy(self._usage, machines, self._supply.step, self._ready_s)

    def step(self, step: InnerStep) -> None:
        pass

    def close(self, summary: dict[str, Any]) -> None:
        pass

    def account(self, tokens: int) -> dict[str, Any]:
        """Consumption of the run, by client and in total, and of its baselines for the same `tokens`."""
        found = {c: self._consumed(k, *self._machine(c, k)) for k, c in enumerate(self._usage.clients)}
        total = sum((used for used, _ in found.values()), Consumption())
        return {
            "integration": self._supply.integration,
            "currency": self._supply.currency,
            "hours": self._usage.t / 3600,
            **_described(found),
            "sites": len(self._names),
            "sites_compared": min(len(self._names), MAX_SITES),
            "baselines": self._baselines(tokens, total) if tokens else {},
        }

    def totals(self) -> dict[str, float | None]:
        """kWh and gCO₂ of the whole run up to the last event, under their names in the summary."""
        kwh, co2_g = self._running.totals() if self._running else (0.0, 0.0)
        return {"energy_kwh": kwh, "co2_g": co2_g}

    def so_far(self) -> dict[str, Any]:
        """Consumption up to the last event, by client and in total, with the keys of `account`.

        Spans that were counted before are not counted again, so frequent calls cost no more than the new events.
        """
        return _described({client: self._count(client, k) for k, client in enumerate(self._usage.clients)})

    def _count(self, client: str, index: int) -> tuple[Consumption, Consumption]:
        """A client's consumption, in total and inside its windows; caches the part that cannot change any more."""
        counted = self._counted.setdefault(client, Counted())
        settled, now = self._usage.settled(client, self._ready_s), self._usage.t
        spans = self._machine(client, index, counted.until)

        def to(stop: float) -> Counted:
            on, busy, open_ = (clipped(of, counted.until, stop) for of in spans)
            used, inside = self._consumed(index, on, busy, open_)
            return Counted(stop, counted.used + used, counted.inside + inside)

        if settled > counted.until:
            counted = self._counted[client] = to(settled)
        if now > counted.until:
            counted = to(now)
        return counted.used, counted.inside

    def curves(self) -> dict[str, Any]:
        """Carbon intensity over the run for the first `MAX_CURVES` clients, as (t, g/kWh) points of a curve."""
        drawn = {}
        for k, client in enumerate(self._usage.clients[:MAX_CURVES]):
            carbon = self._site(k).signals.carbon
            if carbon is not None and self._usage.t > 0:
                drawn[client] = _curve(carbon, self._usage.t)
        return {"carbon_g_kwh": drawn}

    def _site(self, index: int) -> BaselineSite:
        client = self._names[index]
        return BaselineSite(
            client=client,
            tokens_per_s=self._hardware.speed(index),
            power=Power(*self._hardware.watts(index)),
            signals=self._supply.signals(client, index, self._profile),
            ends=self._ends,
        )

    @property
    def _ready_s(self) -> float:
        """Seconds for which a machine idles before each of its windows while it is provisioned."""
        return self._profile.provisioning_s / self._profile.speedup if isinstance(self._profile, Traced) else 0.0

    def _machine(self, client: str, index: int, since: float = 0.0) -> tuple[Spans, Spans, Spans]:
        """When a client's machine was on, when it computed, and its windows, as spans that end after `since`.

        A traced window is open while the signal is on the right side of the threshold: provisioning lies inside it, and
        leaving late outside. Any other window is open while the client is up.
        """
        up, busy = self._usage.windows(client, since), self._usage.busy(client, since)
        open_ = up
        if isinstance(self._profile, Traced):
            open_ = union(self._profile.open_spans(self._names[index], index, self._usage.t, since))
        return union(np.concatenate((switched_on(up, self._ready_s), busy))), busy, open_

    def _consumed(self, index: int, on: Spans, busy: Spans, open_: Spans) -> tuple[Consumption, Consumption]:
        """Consumption of a machine that was on and busy in these spans, in total and while its windows were open."""
        site = self._site(index)
        take = partial(consumption, power=site.power, signals=site.signals, grid_s=self._supply.step)
        return take(on, busy), take(intersection(on, open_), intersection(busy, open_))

    def _baselines(self, tokens: int, total: Consumption) -> dict[str, Any]:
        """Each site alone and always on, each participating site alone and pausing, and the oracle over all sites."""
        grid_s = self._supply.step
        sites = [self._site(k) for k in range(len(self._names))]
        took_part = [k for k, client in enumerate(self._usage.clients) if client in self._usage.tokens][:MAX_SITES]

        def compared(found: Baseline | None) -> dict[str, Any] | None:
            return None if found is None else self._compared(found, total)

        def alone(k: int) -> Baseline | None:
            windows = self._profile.drawn(self._names[k], k, self._seed)
            return pausing(sites[k], tokens, windows, self._supply.paused_watts, grid_s)

        return {
            "always_on": {site.client: compared(always_on(site, tokens, grid_s)) for site in sites[:MAX_SITES]},
            "pausing": {self._names[k]: compared(alone(k)) for k in took_part},
            "oracle": compared(oracle(sites, [self._windows(k) for k in range(len(sites))], tokens, grid_s)),
        }

    def _windows(self, index: int) -> Spans:
        """The client's windows within the run."""
        availability = self._profile.drawn(self._names[index], index, self._seed)
        return union([(window.start, window.stop) for window in availability.until(self._usage.t)])

    def _compared(self, found: Baseline, total: Consumption) -> dict[str, Any]:
        """The figures of a baseline, and the run's consumption as a multiple of them."""
        used = found.used
        return {
            "hours": found.until_s / 3600,
            **_figures(used),
            "run_to_it": {
                "hours": _ratio(self._usage.t, found.until_s),
                "kwh": _ratio(total.kwh, used.kwh),
                "co2_g": _ratio(total.co2_g, used.co2_g),
                "cost": _ratio(total.cost, used.cost),
            },
        }


def _described(found: dict[str, tuple[Consumption, Consumption]]) -> dict[str, Any]:
    """Figures by client and in total, from each client's (consumption, consumption inside its windows)."""
    total = sum((used for used, _ in found.values()), Consumption())
    inside_kwh = sum(inside.kwh for _, inside in found.values())
    return {
        "total": {**_figures(total), "share_in_windows": _ratio(inside_kwh, total.kwh)},
        "clients": {
            client: {**_figures(used), "share_in_windows": _ratio(inside.kwh, used.kwh)}
            for client, (used, inside) in found.items()
        },
    }


def _figures(used: Consumption) -> dict[str, float | None]:
    return {
        "on_h": used.on_s / 3600,
        "train_h": used.train_s / 3600,
        "kwh": used.kwh,
        "co2_g": used.co2_g,
        "cost": used.cost,
    }


def _ratio(part: float | None, whole: float | None) -> float | None:
    """`part` ÷ `whole`; None if either is missing or `whole` is not positive, as a cost may be."""
    return None if part is None or whole is None or whole <= 0 else part / whole


def _curve(signal: Trace, end: float) -> list[tuple[float, float]]:
    """The signal's means over equal pieces of the run, each at its start; the last one is repeated at the end."""
    edges = np.linspace(0.0, end, CURVE_POINTS + 1)
    means = signal.integral(edges[:-1], edges[1:]) / np.diff(edges)
    points = zip(edges.round(1).tolist(), np.append(means, means[-1]).round(2).tolist(), strict=True)
    return [(t, value) for t, value in points]
