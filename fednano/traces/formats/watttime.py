"""WattTime: historical emissions rates in JSON and CSV, whose pounds per MWh become g/kWh.

Documented at https://docs.watttime.org; the CSV is that of its Python client, `watttime`.
"""

from collections.abc import Sequence
from pathlib import Path

from fednano.traces.formats.entries import cell, field, listed, table
from fednano.traces.formats.published import CARBON, Published, TraceFormat
from fednano.traces.rows import Sheet

POUNDS = "lbs_co2_per_mwh"
GRAMS_PER_POUND = 453.59237
G_PER_KWH = GRAMS_PER_POUND / 1000  # of one pound per MWh


def from_sheet(sheet: Sheet, wanted: Sequence[str], file: str) -> Published | None:
    """Files with the columns point_time and value, or timestamp and MOER, which name no unit."""
    by_name = {name.lower(): name for name in sheet.header}
    for time, value in (("point_time", "value"), ("timestamp", "moer"), ("point_time", "moer")):
        if time in by_name and value in by_name:
            # The client's files are named after region, signal and dates.
            units = "usd_per_mwh" if "health_damage" in Path(file).name else POUNDS
            return _published(sheet, by_name[time], by_name[value], units)
    return None


def from_document(document: object, file: str) -> Published | None:
    """`data` of an answer, or a bare list of points, as version 2 of the interface sent it."""
    data, meta = (document.get("data"), document.get("meta")) if isinstance(document, dict) else (document, None)
    points = listed(data, "point_time")
    if not points:
        return None
    rows = [
        (at, [cell(field(file, at, entry, "point_time")), cell(field(file, at, entry, "value"))])
        for at, entry in enumerate(points, start=1)
    ]
    units = meta.get("units") if isinstance(meta, dict) else None
    return _published(table(["point_time", "value"], rows), "point_time", "value", str(units or POUNDS))


def _published(sheet: Sheet, time: str, value: str, units: str) -> Published:
    pounds = units.lower() in (POUNDS, "lbs/mwh", "lb/mwh")
    return Published(
        sheet=sheet,
        time_column=time,
        columns=[value],
        units={value: CARBON if pounds else units},
        factor=G_PER_KWH if pounds else 1.0,
        note="WattTime, pounds per MWh turned into g/kWh" if pounds else f"WattTime, in {units}",
    )


FORMAT = TraceFormat(from_sheet, from_document)
