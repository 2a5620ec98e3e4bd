"""Whose file it is, found from its content."""

import json
from collections.abc import Sequence

from fednano.core.text import brief
from fednano.traces.formats import electricity_maps, entsoe, skypilot, uk_carbon_intensity, watttime
from fednano.traces.formats.machine_events import are_events
from fednano.traces.formats.published import Published, TraceFormat
from fednano.traces.rows import Sheet, read_text, sheet_in

TABLE = "table"
FORMATS: dict[str, TraceFormat] = {
    "electricity_maps": electricity_maps.FORMAT,
    "watttime": watttime.FORMAT,
    "entsoe": entsoe.FORMAT,
    "uk_carbon_intensity": uk_carbon_intensity.FORMAT,
    "skypilot": skypilot.FORMAT,
}


def read_published(
    file: str, form: str | None, time_column: str | None, wanted: Sequence[str], where: str
) -> Published:
    """The table in a file.

    Args:
        file: CSV or JSON; `package:NAME` is one that comes with fednano.
        form: whose file it is, by a name in FORMATS; table: nobody's in particular; None: as the content says.
        time_column: the column of the stamps; None: the one of the publisher, or the first.
        wanted: columns that the user names.
        where: the configuration key that messages name.

    Raises:
        ValueError: the file cannot be read, or is not of the form that was asked for.
    """
    if form not in (None, TABLE, *FORMATS):
        raise ValueError(
            f"{where}.format must be null, {TABLE}, {' or '.join(FORMATS)}, got {form}; null finds out from the file"
        )
    text = read_text(file, where)
    formats = [FORMATS[form]] if form in FORMATS else [] if form == TABLE else list(FORMATS.values())
    document = parsed(text, file)
    if document is None:
        if are_events(text):
            raise ValueError(f"{file} lists machines that come and go; read it with volatility=spot_trace")
        sheet = sheet_in(text, file, [*([time_column] if time_column else []), *wanted])
        published = next(filter(None, (f.sheet(sheet, wanted, file) for f in formats if f.sheet)), None)
    else:
        published = next(filter(None, (f.document(document, file) for f in formats if f.document)), None)
    if published is None:
        if form in FORMATS:
            raise ValueError(f"{where}.format={form} does not fit {file}; set it to null, or download the file again")
        if document is not None:
            raise ValueError(_stranger(document, file))
        published = _plain(sheet, wanted)
    return published


def parsed(text: str, file: str) -> object | None:
    """The JSON document in `text`; None if it is no JSON. Raises ValueError for an object that is torn."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        document: object = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        if text.lstrip().startswith("["):
            return None
        raise ValueError(f"{file} cannot be read as JSON ({error}); download it again") from error
    return document


def _plain(sheet: Sheet, wanted: Sequence[str]) -> Published:
    time = sheet.header[0]
    return Published(sheet=sheet, time_column=time, columns=[name for name in sheet.header if name != time])


def _stranger(document: object, file: str) -> str:
    """A message about a JSON document that no reader knows; interfaces answer errors with such."""
    error = document.get("error") if isinstance(document, dict) else None
    if error is not None:
        return f"{file} holds an error, {brief(error)}, instead of data; download it again"
    return (
        f"{file} is JSON of none of {', '.join(FORMATS)}; download it again, or write CSV with a column of stamps and "
        "one for each site"
    )
