"""A command that makes synthetic traces of photovoltaic surplus, carbon intensity and price.

    python -m fednano.volatility.solar --out FOLDER --days 14 --seed 0 --site almeria,36.84,-2.47

Clear-sky irradiance comes from pvlib (Haurwitz 1945), for the real latitudes of the sites. Clouds, the rest of the grid
and its price are random draws; nothing is measured. Needs an extra: pip install 'fednano[solar]'.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from fednano.core.randomness import generator
from fednano.traces.trace import Array

STEP_MINUTES = 5
DAY_STEPS = 24 * 60 // STEP_MINUTES


@dataclass(frozen=True)
class SolarSite:
    """A named place, in degrees north and degrees east."""

    name: str
    latitude: float
    longitude: float

    @classmethod
    def parse(cls, text: str) -> "SolarSite":
        """Parse NAME,LATITUDE,LONGITUDE. Raises ValueError if that fails or a coordinate is out of range."""
        try:
            name, latitude, longitude = text.split(",")
            site = cls(name.strip(), float(latitude), float(longitude))
        except ValueError:
            raise ValueError(
                f"--site must be NAME,LATITUDE,LONGITUDE, got {text}; write such as almeria,36.84,-2.47"
            ) from None
        if not (site.name and abs(site.latitude) <= 90 and abs(site.longitude) <= 180):
            raise ValueError(
                f"--site must have a name, a latitude from -90 to 90 and a longitude from -180 to 180, got {text}; "
                "use degrees north and degrees east"
            )
        return site


SITES = (
    SolarSite("almeria", 36.84, -2.47),
    SolarSite("tonopah", 38.07, -117.23),
    SolarSite("alice_springs", -23.70, 133.88),
)


def clear_sky(site: SolarSite, begins: datetime, days: int) -> Array:
    """(days · 288,) global horizontal irradiance without clouds, W/m². Raises ValueError without pvlib."""
    try:
        import pandas as pd
        from pvlib.location import Location
    except ImportError as error:
        raise ValueError("pvlib is not installed; pip install 'fednano[solar]'") from error
    times = pd.date_range(begins, periods=days * DAY_STEPS, freq=f"{STEP_MINUTES}min")
    sky = Location(site.latitude, site.longitude).get_clearsky(times, model="haurwitz")
    return np.asarray(sky["ghi"], dtype=np.float64)


def clouds(days: int, seed: int, site: str) -> Array:
    """(days · 288,) share of the clear sky's light that passes the clouds, between 0.1 and 1.

    Each day has its own mean, drawn in favour of clear days. A mean-reverting walk of half an hour varies around it.
    """
    draw = generator(seed, site, "clouds")
    day = np.repeat(draw.beta(3.0, 1.2, days), DAY_STEPS)
    day = np.convolve(np.pad(day, 12, mode="edge"), np.full(25, 1 / 25), mode="valid")
    walk = mean_reverting(draw.normal(size=days * DAY_STEPS), steps=6)
    return np.clip(day + 0.25 * (1 - day) * walk, 0.1, 1.0)


def mean_reverting(noise: Array, steps: float) -> Array:
    """A walk of standard deviation 1 and memory `steps`: x ← a x + √(1 − a²) n with a = exp(−1/steps)."""
    a = np.exp(-1.0 / steps)
    walk = np.empty_like(noise)
    x = noise[0]
    for k, n in enumerate(noise):
        walk[k] = x = a * x + np.sqrt(1 - a * a) * n
    return walk


def carbon(light: Array, local_h: Array, seed: int, site: str) -> Array:
    """Carbon intensity in g/kWh of a grid whose gas plants run less under the sun and most in the evening."""
    walk = mean_reverting(generator(seed, site, "carbon").normal(size=light.size), steps=3 * 12)
    evening = np.exp(-(((local_h - 19.5) / 2.0) ** 2))
    return np.asarray(np.clip(380 - 0.28 * light + 70 * evening + 25 * walk, 20.0, None))


def price(intensity: Array, seed: int, site: str) -> Array:
    """Price in €/MWh that follows carbon intensity; it falls below zero under strong sun."""
    walk = mean_reverting(generator(seed, site, "price").normal(size=intensity.size), steps=12)
    return np.asarray(0.42 * (intensity - 190) + 12 * walk)


def marginal(light: Array, seed: int, site: str) -> Array:
    """Carbon intensity in g/kWh of the plant that would serve an additional load.

    That is gas, except while there is more sun than demand: power that would be curtailed emits almost nothing.
    """
    draw = generator(seed, site, "marginal")
    wanted = 420 + 60 * mean_reverting(draw.normal(size=light.size), steps=12)
    gas = 430 + 30 * mean_reverting(draw.normal(size=light.size), steps=3 * 12)
    return np.asarray(np.where(light > wanted, 12.0, gas))


def write(folder: Path, sites: Sequence[SolarSite], begins: datetime, days: int, seed: int) -> list[Path]:
    """Write synthetic_solar.csv (W/m²), …_carbon.csv and …_marginal.csv (g/kWh), …_price.csv (€/MWh)."""
    hours = np.arange(days * DAY_STEPS) * STEP_MINUTES / 60
    tables: dict[str, list[Array]] = {"solar": [], "carbon": [], "marginal": [], "price": []}
    for site in sites:
        light = clear_sky(site, begins, days) * clouds(days, seed, site.name)
        intensity = carbon(light, (begins.hour + hours + site.longitude / 15) % 24, seed, site.name)
        for name, column in zip(
            tables, (light, intensity, marginal(light, seed, site.name), price(intensity, seed, site.name)), strict=True
        ):
            tables[name].append(column)
    units = {"solar": ("W/m²", 0), "carbon": ("g/kWh", 0), "marginal": ("g/kWh", 0), "price": ("€/MWh", 1)}
    written = []
    for name, columns in tables.items():
        unit, digits = units[name]
        path = folder / f"synthetic_{name}.csv"
        with path.open("w", encoding="utf-8", newline="\n") as out:
            out.write(f"# Synthetic {name} in {unit}, not measured: python -m fednano.volatility.solar --seed {seed}\n")
            out.write(",".join(["time", *(site.name for site in sites)]) + "\n")
            for k, row in enumerate(zip(*columns, strict=True)):
                stamp = (begins + timedelta(minutes=STEP_MINUTES * k)).strftime("%Y-%m-%dT%H:%MZ")
                # Rounding must not leave a minus before a zero.
                out.write(",".join([stamp, *(f"{value:z.{digits}f}" for value in row)]) + "\n")
        written.append(path)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fednano.volatility.solar", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path(), help="the folder to write into")
    parser.add_argument("--begin", default="2026-03-16", help="the first day, ISO 8601")
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--site", action="append", help="NAME,LATITUDE,LONGITUDE; repeat it for each site")
    given = parser.parse_args(arguments)
    try:
        if given.days < 1:
            raise ValueError(f"--days must be >= 1, got {given.days}; use 1 or more")
        sites = [SolarSite.parse(text) for text in given.site] if given.site else SITES
        begins = datetime.fromisoformat(given.begin).replace(tzinfo=UTC)
        given.out.mkdir(parents=True, exist_ok=True)
        for path in write(given.out, sites, begins, given.days, given.seed):
            print(path)
    except (ValueError, OSError) as error:
        print(f"fednano: {error}", file=sys.stderr)
        return 2
    return 0
