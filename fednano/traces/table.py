"""Tables of numbers over time, read from CSV files as grid operators and their clients export them."""

import csv
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np

from fednano.traces.trace import Array

PACKAGE_PREFIX = "package:"
MISSING = {"", "-", "n/a", "n/e", "na", "nan", "null", "none"}
_DAY_FIRST = ("%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S")  # ENTSO-E


@dataclass(frozen=True)
class Table:
    """Columns over time.

    Args:
        file: the file that they come from.
        times: (n,) seconds since the first row.
        rows: (n,) line numbers in the file, counted from 1 as editors do.
        columns: (n,) values by name; NaN where one is missing.
    """

    file: str
    times: Array
    rows: Sequence[int]
    columns: dict[str, Array]


def resolve(file: str, where: str = "volatility") -> Path:
    """The path of `file`; `package:NAME` is one that comes with fednano. Raises ValueError unless it exists.

    Here and below, `where` is the configuration key that error messages name.
    """
    own = Path(__file__).parent / "data"
    path = own / file.removeprefix(PACKAGE_PREFIX) if file.startswith(PACKAGE_PREFIX) else Path(file).expanduser()
    if not path.is_file():
        shipped = ", ".join(sorted(PACKAGE_PREFIX + p.name for p in own.glob("*.csv")))
        raise ValueError(f"{where}.file={file} does not exist; give a CSV file, or one of {shipped}")
    return path


def read_rows(file: str, needed: Sequence[str], where: str = "volatility") -> Iterator[tuple[int, dict[str, str]]]:
    """(line, cells by column name) of a CSV file; lines that begin with # are skipped.

    Raises:
        ValueError: the file does not exist or is not UTF-8, a column is missing, or a row has another length.
    """
    try:
        with resolve(file, where).open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header: list[str] | None = None
            for cells in reader:
                if not cells or cells[0].startswith("#"):
                    continue
                if header is None:
                    header = [cell.strip() for cell in cells]
                    _check_header(file, header, needed, where)
                    continue
                if len(cells) != len(header):
                    raise ValueError(
                        f"{file}, row {reader.line_num}: {len(cells)} cells under {len(header)} columns; fix the row"
                    )
                yield reader.line_num, dict(zip(header, (cell.strip() for cell in cells), strict=True))
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise ValueError(f"{file} cannot be read as CSV in UTF-8 ({error}); export it again") from error
    if header is None:
        raise ValueError(f"{file} is empty; give a CSV file with a header")


def read_table(file: str, time_column: str | None, columns: Sequence[str] | None, where: str = "volatility") -> Table:
    """The named `columns` of a CSV file; None: all except the time column. `time_column` None is the first column.

    Stamps are seconds or ISO 8601; without a zone they are UTC. An interval, as ENTSO-E writes it, counts by its start.

    Raises:
        ValueError: `read_rows` refuses the file, a stamp or number cannot be read, stamps do not ascend, or there are
            fewer than two rows. The message names file, row and remedy.
    """
    stamps: list[float] = []
    lines: list[int] = []
    values: dict[str, list[float]] = {}
    for line, cells in read_rows(file, [*([time_column] if time_column else []), *(columns or [])], where):
        time_column = time_column or next(iter(cells))
        if not values:
            values = {name: [] for name in columns or [name for name in cells if name != time_column]}
        stamp = seconds(cells[time_column], file, line)
        if stamps and stamp <= stamps[-1]:
            what = "repeats the stamp before it" if stamp == stamps[-1] else "is earlier than the row before it"
            raise ValueError(f"{file}, row {line}: {cells[time_column]} {what}; sort the rows and remove duplicates")
        stamps.append(stamp)
        lines.append(line)
        for name, column in values.items():
            column.append(number(cells[name], file, line, name, where))
    if len(stamps) < 2:
        raise ValueError(f"{file} has {len(stamps)} rows; a trace needs 2 or more")
    if not values:
        raise ValueError(f"{file} has no column besides {time_column}; add one for each site")
    times = np.array(stamps) - stamps[0]
    return Table(file, times, lines, {name: np.array(column) for name, column in values.items()})


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
            f"{table.file}, row {table.rows[0]}: column {name} begins without a value; remove the rows before its first"
        )
    times, values = table.times[known], table.columns[name][known]
    step = statistics.median(np.diff(table.times).tolist())
    ends = np.append(times[1:], table.times[-1] + step)
    (before,) = np.nonzero(ends - times > 1.5 * step)
    if len(before) and on_gap == "error":
        row = int(np.flatnonzero(known)[before[0]])
        raise ValueError(
            f"{table.file}, row {table.rows[row]}: column {name} has no value for the "
            f"{ends[before[0]] - times[before[0]]:g} s that follow; fill the gap, or set {where}.on_gap=hold"
        )
    gaps = [(float(times[i] + step), float(ends[i])) for i in before]
    # Hold the value until one step before the next one; a linear trace interpolates only over that last step.
    held = np.array([(stop - step, values[i]) for i, (_, stop) in zip(before, gaps, strict=True)]).reshape(-1, 2)
    order = np.argsort(np.concatenate((times, held[:, 0])), kind="stable")
    times, values = np.concatenate((times, held[:, 0]))[order], np.concatenate((values, held[:, 1]))[order]
    keep = np.append(True, np.diff(times) > 0)
    return times[keep], values[keep], gaps


def seconds(cell: str, file: str, line: int) -> float:
    """A stamp in seconds, from any origin. Raises ValueError naming file, row and remedy."""
    try:
        value = float(cell)
    except ValueError:
        moment = _moment(cell)
        if moment is None:
            raise ValueError(
                f"{file}, row {line}: {cell!r} is not a time; use ISO 8601 such as 2026-03-01T00:00Z, or seconds"
            ) from None
        value = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(value):
        raise ValueError(f"{file}, row {line}: {cell!r} is not a time; use ISO 8601 or seconds")
    return value


def number(cell: str, file: str, line: int, name: str, where: str = "volatility") -> float:
    """A value; NaN if the cell is empty or marked as missing. Raises ValueError naming file, row, column and remedy."""
    if cell.lower() in MISSING:
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise ValueError(
            f"{file}, row {line}: {cell!r} under {name} is not a number; write one with a decimal point, leave the "
            f"cell empty, or leave the column out of {where}.columns"
        )
    return value


def _moment(cell: str) -> datetime | None:
    begin = cell.split(" - ", maxsplit=1)[0].strip()
    try:
        return datetime.fromisoformat(begin)
    except ValueError:
        pass
    for form in _DAY_FIRST:
        try:
            return datetime.strptime(begin, form)
        except ValueError:
            continue
    return None


def _check_header(file: str, header: Sequence[str], needed: Sequence[str], where: str) -> None:
    if len(set(header)) != len(header):
        raise ValueError(f"{file}: two columns share a name in {', '.join(header)}; rename one")
    for name in needed:
        if name not in header:
            raise ValueError(f"{file} has no column {name}; it has {', '.join(header)}; correct {where} or the file")
