"""Electricity Maps: yearly CSV files of a zone, and the answers of its interface in JSON.

Documented at https://app.electricitymaps.com/datasets (CSV) and https://app.electricitymaps.com/developer-hub/api.
"""

import re
from collections.abc import Sequence

from fednano.traces.formats.entries import cell, field, listed, table
from fednano.traces.formats.published import CARBON, Published, TraceFormat
from fednano.traces.rows import Sheet

# Until 2024 "Carbon Intensity gCO₂eq/kWh (LCA)" and "Low Carbon Percentage"; since then "Carbon intensity gCO₂eq/kWh
# (Life cycle)" and "Carbon-free energy percentage (CFE%)".
_COLUMNS = {
    "life_cycle": r"carbon intensity gco.{0,3}eq/kwh \((?:lca|life cycle)\)",
    "direct": r"carbon intensity gco.{0,3}eq/kwh \(direct\)",
    "carbon_free": r"low carbon percentage|carbon-free energy percentage.*",
    "renewable": r"renewable (?:energy )?percentage.*",
}


def from_sheet(sheet: Sheet, wanted: Sequence[str], file: str) -> Published | None:
    """Life-cycle intensity by default; `direct`, `carbon_free` and `renewable` name the other columns."""
    names = {
        short: name
        for short, form in _COLUMNS.items()
        for name in sheet.header
        if re.fullmatch(form, name, re.IGNORECASE)
    }
    time = next((name for name in sheet.header if name.lower().startswith("datetime")), None)
    intensities = [names[short] for short in ("life_cycle", "direct") if short in names]
    if time is None or not intensities:
        return None
    return Published(
        sheet=sheet,
        time_column=time,
        columns=intensities[:1],
        names=names,
        units={name: CARBON if name in intensities else "%" for name in names.values()},
        note="Electricity Maps",
    )


def from_document(document: object, file: str) -> Published | None:
    """`history` or `data` of an answer; the column has the name of the zone."""
    if not isinstance(document, dict):
        return None
    found = listed(document.get("history"), "carbonIntensity") or listed(document.get("data"), "carbonIntensity")
    if not found:
        return None
    zone = str(document.get("zone") or found[0].get("zone") or "carbonIntensity")
    rows = [
        (at, [cell(field(file, at, entry, "datetime")), cell(field(file, at, entry, "carbonIntensity"))])
        for at, entry in enumerate(found, start=1)
    ]
    sheet = table(["datetime", zone], rows)
    return Published(sheet=sheet, time_column="datetime", columns=[zone], units={zone: CARBON}, note="Electricity Maps")


FORMAT = TraceFormat(from_sheet, from_document)
