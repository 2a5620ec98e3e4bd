"""The carbon intensity of Great Britain: answers of the interface in JSON, and the CSV files of its website.

Documented at https://carbon-intensity.github.io/api-definitions.
"""

from collections.abc import Sequence
from typing import Any

from fednano.traces.formats.entries import cell, field, listed, table
from fednano.traces.formats.published import CARBON, Published, TraceFormat
from fednano.traces.numbers import MISSING
from fednano.traces.rows import CsvRow, Sheet

_ACTUAL, _FORECAST = "Actual Carbon Intensity (gCO2/kWh)", "Forecast Carbon Intensity (gCO2/kWh)"
_NAME = "intensity"


def from_sheet(sheet: Sheet, wanted: Sequence[str], file: str) -> Published | None:
    """A column `intensity`: what was measured, or else the forecast; `actual` and `forecast` name the file's own."""
    if _ACTUAL not in sheet.header or _FORECAST not in sheet.header:
        return None
    actual, forecast = sheet.header.index(_ACTUAL), sheet.header.index(_FORECAST)
    forecasts = sum(cells[actual].lower() in MISSING for _, cells in sheet.rows)
    rows = [
        (line, [*cells, cells[forecast] if cells[actual].lower() in MISSING else cells[actual]])
        for line, cells in sheet.rows
    ]
    return _published(
        Sheet([*sheet.header, _NAME], rows, sheet.separator),
        sheet.header[0],
        [_NAME],
        forecasts,
        {"actual": _ACTUAL, "forecast": _FORECAST},
    )


def from_document(document: object, file: str) -> Published | None:
    """The national answer: a column `intensity`. A regional one has forecasts alone: a column for each region."""
    if not isinstance(document, dict):
        return None
    data = document.get("data")
    if region := listed([data] if isinstance(data, dict) else data, "regionid"):
        return _region(region, file)
    if halves := listed(data, "regions"):
        return _regions(halves, file)
    halves = listed(data, "intensity")
    if not halves or "from" not in halves[0]:
        return None
    forecasts, rows = 0, []
    for at, entry in enumerate(halves, start=1):
        intensity = field(file, at, entry, "intensity")
        value = intensity.get("actual") if isinstance(intensity, dict) else None
        if value is None:
            value = field(file, at, intensity, "forecast")
            forecasts += 1
        rows.append((at, [cell(field(file, at, entry, "from")), cell(value)]))
    return _published(table(["from", _NAME], rows), "from", [_NAME], forecasts)


def _region(regions: list[Any], file: str) -> Published | None:
    """The answer for one region, whose half-hours are a list of its own."""
    data, name = regions[0].get("data"), str(regions[0].get("shortname") or regions[0]["regionid"])
    if len(regions) > 1 or not isinstance(data, list) or not data:
        return None
    rows: list[CsvRow] = [
        (at, [cell(field(file, at, entry, "from")), cell(_forecast(file, at, entry))])
        for at, entry in enumerate(data, start=1)
    ]
    return _published(table(["from", name], rows), "from", [name], len(rows))


def _regions(halves: list[Any], file: str) -> Published:
    """The answer for all regions, which lists them in each half-hour."""
    names: list[str] = []
    rows: list[CsvRow] = []
    for at, entry in enumerate(halves, start=1):
        regions = field(file, at, entry, "regions")
        regions = regions if isinstance(regions, list) else []
        found = {str(field(file, at, region, "shortname")): cell(_forecast(file, at, region)) for region in regions}
        names = names or list(found)
        rows.append((at, [cell(field(file, at, entry, "from")), *(found.get(name, "") for name in names)]))
    return _published(table(["from", *names], rows), "from", names, len(rows))


def _forecast(file: str, at: int, entry: object) -> object:
    return field(file, at, field(file, at, entry, "intensity"), "forecast")


def _published(
    sheet: Sheet, time: str, columns: Sequence[str], forecasts: int, names: dict[str, str] | None = None
) -> Published:
    names = names or {}
    return Published(
        sheet=sheet,
        time_column=time,
        columns=columns,
        names=names,
        units=dict.fromkeys([*columns, *names.values()], CARBON),
        note="Carbon Intensity API" + (f", {forecasts:,} values are forecasts" if forecasts else ""),
    )


FORMAT = TraceFormat(from_sheet, from_document)
