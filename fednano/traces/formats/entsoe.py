"""ENTSO-E: what both transparency platforms export as CSV, prices and generation per type first of all.

Documented at https://transparencyplatform.zendesk.com and https://transparency.entsoe.eu. The platform of before 2025
has columns such as "Day-ahead Price [EUR/MWh]" and one for each type of generation; the new one writes
"Day-ahead Price (EUR/MWh)", and each area, sequence and type of generation on a row of its own.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

from fednano.traces.formats.ipcc import intensity
from fednano.traces.formats.published import CARBON, Published, TraceFormat
from fednano.traces.numbers import read_numbers
from fednano.traces.rows import CsvRow, Sheet

AREA, SEQUENCE, KIND = "Area", "Sequence", "Production Type"
NO_SEQUENCE = "Without Sequence"
INTENSITY = "carbon_intensity"
_TIME = re.compile(r"MTU\b.*|Time \((?:UTC|CET/CEST)\)")
_TEXT = re.compile(rf"{AREA}|{SEQUENCE}|{KIND}|Currency|.*\bPeriod\b.*|(?:BZN|CTA|CTY|SCA|IPA|IBA)\|.*")
_PRICE = re.compile(r"Day-ahead Price [\[(](.*/MWh)[\])]")
_GENERATION = re.compile(r"(.*\S) +- +Actual Aggregated [\[(]MW[\])]")


def from_sheet(sheet: Sheet, wanted: Sequence[str], file: str) -> Published | None:
    """The day-ahead price; of generation per type, a carbon intensity; of anything else, all columns of numbers.

    Where there are several sequences, that without a number or the first is read, or the one that is named as a
    column. Several areas become a column each.
    """
    time = next((name for name in sheet.header if _TIME.fullmatch(name)), None)
    if time is None or not sheet.rows or " - " not in sheet.rows[0][1][sheet.header.index(time)]:
        return None
    price = next((name for name in sheet.header if _PRICE.fullmatch(name)), None)
    sheet, sequence = _one_sequence(sheet, wanted)
    values = [name for name in sheet.header if name != time and not _TEXT.fullmatch(name)]
    if not values:
        return None
    if KIND in sheet.header:
        sheet = _wide(sheet, time, KIND, _main(values, r"Generation\b.*"), file)
        return _carbon(sheet, time, {name: name for name in sheet.header if name != time}, file)
    if kinds := {match[1]: name for name in values if (match := _GENERATION.fullmatch(name))}:
        return _carbon(sheet, time, kinds, file)
    named = {sequence: price} if sequence and price else {}
    columns = [price] if price else values
    if len(_labels(sheet, AREA)) > 1:
        sheet = _wide(sheet, time, AREA, columns[0], file)
        columns, named = [name for name in sheet.header if name != time], {}
    unit = match[1] if price and (match := _PRICE.fullmatch(price)) else ""
    return Published(
        sheet=sheet,
        time_column=time,
        columns=columns,
        names=named,
        units=dict.fromkeys(columns, unit) if unit else {},
        note=", ".join(filter(None, ("ENTSO-E", sequence))),
        open_tail=True,
    )


def _labels(sheet: Sheet, column: str) -> list[str]:
    """The different cells of a column, in their order; none if there is no such column."""
    if column not in sheet.header:
        return []
    at = sheet.header.index(column)
    return list(dict.fromkeys(cells[at] for _, cells in sheet.rows))


def _one_sequence(sheet: Sheet, wanted: Sequence[str]) -> tuple[Sheet, str]:
    """The rows of one sequence, and its name if there are several."""
    labels = _labels(sheet, SEQUENCE)
    if len(labels) < 2:
        return sheet, ""
    chosen = next(
        (name for name in wanted if name in labels), min(labels, key=lambda name: (name != NO_SEQUENCE, name))
    )
    at = sheet.header.index(SEQUENCE)
    return Sheet(sheet.header, [row for row in sheet.rows if row[1][at] == chosen], sheet.separator), chosen


def _main(values: Sequence[str], form: str) -> str:
    return next((name for name in values if re.fullmatch(form, name)), values[0])


def _wide(sheet: Sheet, time: str, label: str, value: str, file: str) -> Sheet:
    """A row for each stamp, and a column of `value` for each cell under `label`."""
    if label == KIND and len(areas := _labels(sheet, AREA)) > 1:
        raise ValueError(f"{file} holds generation in {len(areas)} areas, {', '.join(areas)}; export one area a file")
    at, of, what = (sheet.header.index(name) for name in (time, label, value))
    labels = _labels(sheet, label)
    found: dict[tuple[str, int], tuple[int, dict[str, str]]] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for line, cells in sheet.rows:
        # In the hour that repeats in autumn, a stamp may come twice under one label.
        key = cells[at], cells[of]
        found.setdefault((cells[at], seen[key]), (line, {}))[1][cells[of]] = cells[what]
        seen[key] += 1
    rows: list[CsvRow] = [
        (line, [stamp, *(row.get(name, "") for name in labels)]) for (stamp, _), (line, row) in found.items()
    ]
    return Sheet([time, *labels], rows, sheet.separator)


def _carbon(sheet: Sheet, time: str, kinds: dict[str, str], file: str) -> Published:
    """The sheet with a column `carbon_intensity`, from generation in the columns `kinds`, by type."""
    lines = [line for line, _ in sheet.rows]
    cells = {kind: [row[sheet.header.index(name)] for _, row in sheet.rows] for kind, name in kinds.items()}
    generation = read_numbers(cells, lines, file, sheet.separator, "volatility")
    found, left_out = intensity(generation)
    rows = [
        (line, [*row, "" if math.isnan(value) else repr(value)])
        for (line, row), value in zip(sheet.rows, found, strict=True)
    ]
    note = "ENTSO-E, intensity of generation by the medians of IPCC 2014"
    return Published(
        sheet=Sheet([*sheet.header, INTENSITY], rows, sheet.separator),
        time_column=time,
        columns=[INTENSITY],
        names={kind: name for kind, name in kinds.items() if kind != name},
        units={INTENSITY: CARBON},
        note=note + (f" without {left_out:.1%} of it, whose types have none" if left_out >= 0.0005 else ""),
        open_tail=True,
    )


FORMAT = TraceFormat(from_sheet)
