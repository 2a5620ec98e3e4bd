"""The carbon intensity of a mix of generation, from the IPCC's medians for each type of plant."""

import math
from collections.abc import Mapping, Sequence

# Life-cycle emissions, g/kWh: medians of table A.III.2 in Schlömer et al. 2014, annex III of the contribution of
# working group III to the IPCC's fifth assessment report. Types are named as by ENTSO-E. The table has no median for
# oil, peat, coal-derived gas, waste and marine power.
MEDIANS = {
    "Biomass": 230.0,
    "Fossil Brown coal/Lignite": 820.0,
    "Fossil Gas": 490.0,
    "Fossil Hard coal": 820.0,
    "Geothermal": 38.0,
    "Hydro Run-of-river and poundage": 24.0,
    "Hydro Run-of-river and pondage": 24.0,
    "Hydro Water Reservoir": 24.0,
    "Nuclear": 12.0,
    "Solar": 48.0,  # photovoltaic, utility scale
    "Wind Offshore": 12.0,
    "Wind Onshore": 11.0,
}
STORAGE = ("Hydro Pumped Storage", "Energy storage")  # gives back what others generated


def intensity(generation: Mapping[str, Sequence[float]]) -> tuple[list[float], float]:
    """(g/kWh at each stamp, the share of generation that has no median and is left out).

    Args:
        generation: MW at each stamp, by type; NaN where a value is missing. A type without any value counts as absent;
            a stamp at which another one has no value, or at which nothing is generated, has no intensity: NaN.
    """
    present = {
        kind: values
        for kind, values in generation.items()
        if kind not in STORAGE and not all(math.isnan(value) for value in values)
    }
    found, left_out, total = [], 0.0, 0.0
    for at in range(len(next(iter(generation.values()), ()))):
        mix = {kind: math.nan if math.isnan(values[at]) else max(0.0, values[at]) for kind, values in present.items()}
        known = sum(power for kind, power in mix.items() if kind in MEDIANS)
        everything = sum(mix.values())
        emitted = sum(MEDIANS[kind] * power for kind, power in mix.items() if kind in MEDIANS)
        found.append(emitted / known if known > 0 and not math.isnan(everything) else math.nan)
        if not math.isnan(everything):
            left_out, total = left_out + everything - known, total + everything
    return found, left_out / total if total > 0 else 0.0
