"""Baselines: consumption of the same training on one site always on, on one that pauses, or with foresight."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fednano.energy.accounting import ONE, Consumption, Power, Signals, Spans, consumption, pieces, union
from fednano.volatility.availability import Availability

MAX_WINDOWS = 10_000  # most windows of a single site: one site would need years of them for the work of a thousand


@dataclass(frozen=True, kw_only=True)
class BaselineSite:
    """A client: tokens per second, power, and the signals of its electricity, known until `ends` (run seconds)."""

    client: str
    tokens_per_s: float
    power: Power
    signals: Signals
    ends: float = math.inf


@dataclass(frozen=True)
class Baseline:
    """Seconds until the last token is trained, and the consumption until then."""

    until_s: float
    used: Consumption


def always_on(site: BaselineSite, tokens: int, grid_s: float | None = None) -> Baseline | None:
    """The site alone, training without a pause from 0 on. None if its signals end before it is done."""
    until = tokens / site.tokens_per_s
    if until > site.ends:
        return None
    busy = union([0.0, until])
    return Baseline(until, consumption(busy, busy, site.power, site.signals, grid_s))


def pausing(
    site: BaselineSite, tokens: int, availability: Availability, paused_w: float = 0.0, grid_s: float | None = None
) -> Baseline | None:
    """The site alone, training in all of its windows and drawing `paused_w` outside, until it is done.

    None if it is never done, or its signals end before it is.
    """
    busy = _first(availability, tokens / site.tokens_per_s)
    if busy is None or busy[-1, 1] > site.ends:
        return None
    until = float(busy[-1, 1])
    power = Power(paused_w, site.power.train_w)
    on = union([0.0, until]) if paused_w else busy
    return Baseline(until, consumption(on, busy, power, site.signals, grid_s))


def oracle(
    sites: Sequence[BaselineSite], windows: Sequence[Spans], tokens: int, grid_s: float | None = None
) -> Baseline | None:
    """The cleanest way to train the tokens within the sites' `windows`, which are known in advance.

    Windows are cut at the stamps of the carbon intensity. The pieces are taken in the order of the carbon that a token
    emits in them (training watts · mean intensity ÷ tokens per second) until they hold the tokens; the last piece is
    taken in part. Machines are off otherwise, and updates travel in no time. No schedule within these windows emits
    less, except for what a linear intensity would save within a piece. Without intensities, energy is minimised.

    None if the windows hold fewer tokens.
    """
    cut = [_cut(site, spans) for site, spans in zip(sites, windows, strict=True)]
    owner = np.repeat(np.arange(len(sites)), [len(spans) for spans in cut])
    every = np.concatenate([*cut, np.empty((0, 2))])
    seconds = every[:, 1] - every[:, 0]
    speed = np.array([site.tokens_per_s for site in sites])[owner]
    emitted = np.concatenate([_per_token(site, spans) for site, spans in zip(sites, cut, strict=True)])
    order = np.argsort(emitted, kind="stable")
    before = np.cumsum((speed * seconds)[order]) - (speed * seconds)[order]
    if not len(order) or before[-1] + (speed * seconds)[order[-1]] < tokens * (1 - 1e-9):
        return None
    taken = order[before < tokens]
    left = tokens - before[len(taken) - 1]
    chosen = every.copy()
    chosen[taken[-1], 1] = min(every[taken[-1], 1], every[taken[-1], 0] + left / speed[taken[-1]])
    used = Consumption()
    for k, site in enumerate(sites):
        busy = union(chosen[taken[owner[taken] == k]])
        used += consumption(busy, busy, site.power, site.signals, grid_s)
    return Baseline(float(chosen[taken, 1].max()), used)


def _first(availability: Availability, seconds: float) -> Spans | None:
    """The first `seconds` of a client's windows; None if they hold less."""
    found = []
    for start, stop in _windows(availability):
        found.append((start, min(stop, start + seconds)))
        seconds -= stop - start
        if seconds <= 0:
            return union(found)
    return None


def _windows(availability: Availability) -> Iterator[tuple[float, float]]:
    t = 0.0
    for _ in range(MAX_WINDOWS):
        window = availability.upcoming(t)
        if window is None:
            return
        yield window.start, window.stop
        t = window.stop


def _cut(site: BaselineSite, windows: Spans) -> Spans:
    signal = site.signals.carbon
    if signal is None or not len(windows):
        return windows
    return pieces(windows, signal.stamps(windows[0, 0], windows[-1, 1]))


def _per_token(site: BaselineSite, spans: Spans) -> np.typing.NDArray[np.float64]:
    """(n,) grams of CO₂ (or joules, without a carbon signal) per token within each span."""
    signal = site.signals.carbon or ONE
    mean = signal.integral(spans[:, 0], spans[:, 1]) / (spans[:, 1] - spans[:, 0])
    return np.asarray(site.power.train_w * mean / site.tokens_per_s)
