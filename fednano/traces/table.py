"""Tables of numbers over time, read from files as grid operators and their clients export them."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fednano.core.text import shown
from fednano.traces.calendar import shown_moment
from fednano.traces.formats.recognise import read_published
from fednano.traces.numbers import MISSING, read_numbers
from fednano.traces.rows import CsvRow, check_columns
from fednano.traces.stamps import is_stamp, read_stamps
from fednano.traces.trace import Array

_PLURALS = {"row": "rows", "entry": "entries"}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns over time.

    Args:
        file: the file that they come from.
        times: (n,) seconds since the first row.
        rows: (n,) line numbers in the file, counted from 1 as editors do, or numbers of JSON entries.
        columns: (n,) values by name; NaN where one is missing.
        first, last: these stamps in seconds since 1970, in UTC or in the file's own zone; None if they have no date.
        read_as: how stamps were read; empty for ISO 8601 and for seconds.
        noun: what `rows` counts: row or entry.
        units: of columns by name, as far as the file's publisher is known.
        factor: by which values were multiplied to be in these units.
        note: whose file it is and what was done to it; empty for a plain table.
    """

    file: str
    times: Array
    rows: Sequence[int]
    columns: dict[str, Array]
    first: float | None = None
    last: float | None = None
    read_as: str = ""
    noun: str = "row"
    units: Mapping[str, str] = field(default_factory=dict)
    factor: float = 1.0
    note: str = ""

    def described(self) -> str:
        """The file, its first and last stamp and the reading of its stamps, on one line."""
        begin, end = (
            ("0 s", f"{float(self.times[-1]):,.6g} s")
            if self.first is None or self.last is None
            else map(shown_moment, (self.first, self.last))
        )
        step = statistics.median(np.diff(self.times).tolist())
        read_as = f", read as {self.read_as}" if self.read_as else ""
        note = f"; {self.note}" if self.note else ""
        rows = _PLURALS[self.noun]
        return (
            f"{shown(self.file)}: {len(self.times):,} {rows}, {begin} to {end}, usual step {step:,.6g} s{read_as}{note}"
        )


def read_table(
    file: str,
    time_column: str | None,
    columns: Sequence[str] | None,
    where: str = "volatility",
    form: str | None = None,
) -> Table:
    """The named `columns` of a file.

    Args:
        file: CSV or JSON.
        time_column: the column of the stamps; None: the publisher's, or the first.
        columns: names, also the short ones of a publisher's; None: the publisher's main ones, or all but the stamps.
        where: the configuration key that messages name.
        form: whose file it is; None: as its content says. See `formats/recognise.py`.

    `stamps.py` says how stamps are read; without a zone they are UTC. An interval, as ENTSO-E writes it, counts by its
    start.

    Raises:
        ValueError: the file cannot be read, a column is missing, a stamp or number cannot be read or could be read in
            two ways, stamps do not ascend, or there are fewer than two rows. The message names file, row and remedy.
    """
    published = read_published(file, form, time_column, columns or [], where)
    sheet, time_column = published.sheet, time_column or published.time_column
    asked = list(columns or [name for name in published.columns if name != time_column])
    names = {name: published.names.get(name, name) for name in asked}
    check_columns(file, [*sheet.header, *published.names], [time_column, *asked], where)
    rows = sheet.rows
    if rows and _is_units(dict(zip(sheet.header, rows[0][1], strict=True)), time_column, list(names.values())):
        rows = rows[1:]
    cells = {name: [row[sheet.header.index(name)] for _, row in rows] for name in {time_column, *names.values()}}
    if is_stamp(time_column) and any(is_stamp(name) for name in asked):
        raise ValueError(f"{file} has no header; name its columns in the first row")
    values = {name: cells[column] for name, column in names.items()}
    if published.open_tail:
        rows, values = _without_open_tail(rows, values)
    if len(rows) < 2:
        raise ValueError(f"{file} has {len(rows)} {_PLURALS[sheet.noun]}; a trace needs 2 or more")
    if not names:
        raise ValueError(f"{file} has no column besides {time_column}; add one for each site")
    lines = [line for line, _ in rows]
    stamps = read_stamps(cells[time_column][: len(rows)], lines, file, time_column, sheet.noun)
    numbers = read_numbers(values, lines, file, sheet.separator, where, sheet.noun)
    return Table(
        file=file,
        times=stamps.times,
        rows=lines,
        columns={name: published.factor * np.array(column) for name, column in numbers.items()},
        first=stamps.first,
        last=stamps.last,
        read_as=stamps.read_as,
        noun=sheet.noun,
        units={name: published.units[column] for name, column in names.items() if column in published.units},
        factor=published.factor,
        note=published.note,
    )


def _without_open_tail(rows: list[CsvRow], values: dict[str, list[str]]) -> tuple[list[CsvRow], dict[str, list[str]]]:
    """Rows and values without the last ones in which nothing stands: hours that had not come when the file was made."""
    end = len(rows)
    while end and all(column[end - 1].lower() in ("", "-", "n/a") for column in values.values()):
        end -= 1
    return rows[:end], {name: column[:end] for name, column in values.items()}


def _is_units(cells: dict[str, str], time_column: str, names: Sequence[str]) -> bool:
    """Whether the first row holds units: words under every column."""
    return not is_stamp(cells[time_column]) and not any(
        cells[name].lower() in MISSING or is_stamp(cells[name]) for name in names
    )


def fill(
    table: Table, name: str, on_gap: Literal["hold", "down", "error"], where: str = "volatility"
) -> tuple[Array, Array, list[tuple[float, float]]]:
    """(times, values, gaps) of one column. Each gap is filled with the value before it.

    A gap is a run of missing values, or two stamps more than one and a half usual steps apart. It begins where the
    value before it would have ended.

    Raises:
        ValueError: the column begins without a value, or it has a gap and `on_gap` is error.
    """
    known = np.isfinite(table.columns[name])
    if not known[0]:
        raise ValueError(
            f"{table.file}, {table.noun} {table.rows[0]}: column {name} begins without a value; remove "
            "the rows before its first"
        )
    times, values = table.times[known], table.columns[name][known]
    step = statistics.median(np.diff(table.times).tolist())
    ends = np.append(times[1:], table.times[-1] + step)
    (before,) = np.nonzero(ends - times > 1.5 * step)
    if len(before) and on_gap == "error":
        row = int(np.flatnonzero(known)[before[0]])
        raise ValueError(
            f"{table.file}, {table.noun} {table.rows[row]}: column {name} has no value for the "
            f"{ends[before[0]] - times[before[0]]:g} s that follow; fill the gap, or set {where}.on_gap=hold"
        )
    gaps = [(float(times[i] + step), float(ends[i])) for i in before]
    # Hold the value until one step before the next one; a linear trace interpolates only over that last step.
    held = np.array([(stop - step, values[i]) for i, (_, stop) in zip(before, gaps, strict=True)]).reshape(-1, 2)
    order = np.argsort(np.concatenate((times, held[:, 0])), kind="stable")
    times, values = np.concatenate((times, held[:, 0]))[order], np.concatenate((values, held[:, 1]))[order]
    keep = np.append(True, np.diff(times) > 0)
    return times[keep], values[keep], gaps
