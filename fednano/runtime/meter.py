"""What a run consumed, and what its baselines would have: listens to the events, accounts at the end."""

from functools import partial
from typing import Any

import numpy as np

from fednano.events import Event
from fednano.runtime.parts import Parts
from fednano.volatility.baselines import Baseline, Site, always_on, oracle, pausing
from fednano.volatility.energy import Consumption, Power, Spans, Usage, consumption, intersection, switched_on, union
from fednano.volatility.trace import Trace
from fednano.volatility.traced import Traced

MAX_SITES = 32  # whose baselines alone are worked out: a thousand clients' tokens would take one of them years
MAX_CURVES, CURVE_POINTS = 12, 600


class Meter:
    """A `Sink` that keeps when machines worked.

    Raises ValueError at the first event after a trace of carbon or price has ended.
    """

    def __init__(self, parts: Parts) -> None:
        self._supply = parts.energy
        self._hardware = parts.hardware
        self._profile = parts.volatility
        self._names = parts.settings.names
        self._seed = parts.settings.seed
        self._ends = self._supply.ends(self._profile)
        self._usage = Usage()

    def event(self, event: Event) -> None:
        if event.t > self._ends:
            self._supply.require(event.t, self._profile)
        self._usage.add(event)

    def step(self, client: str, round: int, step: int, steps: int, loss: float, tokens: int) -> None:
        pass

    def close(self, summary: dict[str, Any]) -> None:
        pass

    def account(self, tokens: int) -> dict[str, Any]:
        """Consumption of the run by client and in all, and of its baselines for the same `tokens`."""
        clients, total, inside_kwh = {}, Consumption(), 0.0
        for k, client in enumerate(self._usage.clients):
            used, inside = self._used(client, k)
            clients[client] = {**_figures(used), "share_in_windows": _ratio(inside.kwh, used.kwh)}
            total += used
            inside_kwh += inside.kwh
        return {
            "integration": self._supply.integration,
            "currency": self._supply.currency,
            "hours": self._usage.t / 3600,
            "total": {**_figures(total), "share_in_windows": _ratio(inside_kwh, total.kwh)},
            "clients": clients,
            "sites_compared": min(len(self._names), MAX_SITES),
            "baselines": self._baselines(tokens, total) if tokens else {},
        }

    def curves(self) -> dict[str, Any]:
        """Carbon intensity over the run for the first clients, as (t, g/kWh) pairs to draw."""
        drawn = {}
        for k, client in enumerate(self._usage.clients[:MAX_CURVES]):
            carbon = self._site(k).signals.carbon
            if carbon is not None and self._usage.t > 0:
                drawn[client] = _curve(carbon, self._usage.t)
        return {"carbon_g_kwh": drawn}

    def _site(self, index: int) -> Site:
        client = self._names[index]
        return Site(
            client,
            self._hardware.speed(index),
            Power(*self._hardware.watts(index)),
            self._supply.signals(client, index, self._profile),
            self._ends,
        )

    def _used(self, client: str, index: int) -> tuple[Consumption, Consumption]:
        """What a client consumed, and the part of it while its windows were open.

        A machine idles while it is provisioned. Open is a traced window while the signal is on the right side of the
        threshold, so that provisioning lies inside and leaving late outside; any other while the client is up.
        """
        up, busy = self._usage.windows(client), self._usage.busy(client)
        ready_s, open_ = 0.0, up
        if isinstance(self._profile, Traced):
            ready_s = self._profile.provisioning_s / self._profile.speedup
            open_ = union(self._profile.open_spans(self._names[index], index, self._usage.t))
        on = union(np.concatenate((switched_on(up, ready_s), busy)))
        site = self._site(index)
        take = partial(consumption, power=site.power, signals=site.signals, grid_s=self._supply.step)
        return take(on, busy), take(intersection(on, open_), intersection(busy, open_))

    def _baselines(self, tokens: int, total: Consumption) -> dict[str, Any]:
        """Every site alone and always on; those that took part alone and pausing; the oracle over all."""
        grid_s = self._supply.step
        sites = [self._site(k) for k in range(len(self._names))]
        took_part = [k for k, client in enumerate(self._usage.clients) if client in self._usage.tokens][:MAX_SITES]

        def compared(found: Baseline | None) -> dict[str, Any] | None:
            return None if found is None else self._compared(found, total)

        def alone(k: int) -> Baseline | None:
            windows = self._profile.availability(self._names[k], k, self._seed)
            return pausing(sites[k], tokens, windows, self._supply.paused_watts, grid_s)

        return {
            "always_on": {site.client: compared(always_on(site, tokens, grid_s)) for site in sites[:MAX_SITES]},
            "pausing": {self._names[k]: compared(alone(k)) for k in took_part},
            "oracle": compared(oracle(sites, [self._windows(k) for k in range(len(sites))], tokens, grid_s)),
        }

    def _windows(self, index: int) -> Spans:
        """The client's windows within the run."""
        availability = self._profile.availability(self._names[index], index, self._seed)
        return union([(window.start, window.stop) for window in availability.until(self._usage.t)])

    def _compared(self, found: Baseline, total: Consumption) -> dict[str, Any]:
        """A baseline, and what the run took as a multiple of it."""
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


def _figures(used: Consumption) -> dict[str, float | None]:
    return {
        "on_h": used.on_s / 3600,
        "train_h": used.train_s / 3600,
        "kwh": used.kwh,
        "co2_g": used.co2_g,
        "cost": used.cost,
    }


def _ratio(part: float | None, whole: float | None) -> float | None:
    """None where there is nothing to compare with; a cost below zero is none."""
    return None if part is None or whole is None or whole <= 0 else part / whole


def _curve(signal: Trace, end: float) -> list[tuple[float, float]]:
    """The signal's means over equal pieces of the run, each at its beginning; the last one at the end too."""
    edges = np.linspace(0.0, end, CURVE_POINTS + 1)
    means = signal.integral(edges[:-1], edges[1:]) / np.diff(edges)
    points = zip(edges.round(1).tolist(), np.append(means, means[-1]).round(2).tolist(), strict=True)
    return [(t, value) for t, value in points]
