"""Rows of CSV files: text, separator, header, and what is passed over."""

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fednano.core.text import decoded

PACKAGE_PREFIX = "package:"
SEPARATORS = ",;\t|"
_SAMPLE = 40  # rows from which separator and header are found
_GZIP = b"\x1f\x8b"

CsvRow = tuple[int, list[str]]


@dataclass(frozen=True)
class Sheet:
    """Header and rows of a CSV file.

    Args:
        header: column names.
        rows: (line, cells), as many cells as columns; lines are counted from 1 as editors do.
        separator: between two cells.
        noun: what the number of a row counts: rows of the file or, in JSON, entries of its list.
    """

    header: list[str]
    rows: list[CsvRow]
    separator: str = ","
    noun: str = "row"


def resolve(file: str, where: str = "volatility") -> Path:
    """The path of `file`; `package:NAME` is one that comes with fednano. Raises ValueError unless it exists.

    Here and below, `where` is the configuration key that error messages name.
    """
    own = Path(__file__).parent / "data"
    path = own / file.removeprefix(PACKAGE_PREFIX) if file.startswith(PACKAGE_PREFIX) else Path(file).expanduser()
    if not path.is_file():
        shipped = ", ".join(sorted(PACKAGE_PREFIX + p.name for p in own.glob("*.*")))
        raise ValueError(f"{where}.file={file} does not exist; give a CSV or JSON file, or one of {shipped}")
    return path


def read_rows(file: str, needed: Sequence[str], where: str = "volatility") -> Iterator[tuple[int, dict[str, str]]]:
    """(line, cells by column name) of a CSV file. Raises ValueError as `read_sheet` does."""
    sheet = read_sheet(file, needed, where)
    for line, cells in sheet.rows:
        yield line, dict(zip(sheet.header, cells, strict=True))


def read_sheet(file: str, needed: Sequence[str], where: str = "volatility") -> Sheet:
    """The header and rows of a CSV file, as `sheet_in` reads it. Raises ValueError also if a column is missing."""
    sheet = sheet_in(read_text(file, where), file, needed)
    check_columns(file, sheet.header, needed, where)
    return sheet


def read_text(file: str, where: str = "volatility") -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark; one that gzip packed is unpacked.

    Raises ValueError if the file does not exist or cannot be read.
    """
    try:
        data = resolve(file, where).read_bytes()
        return decoded(gzip.decompress(data) if data.startswith(_GZIP) else data)
    except (UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file} cannot be read as CSV or JSON in UTF-8 ({error}); export it again") from error


def sheet_in(text: str, file: str, needed: Sequence[str] = ()) -> Sheet:
    """The header and rows in the text of a CSV file; the header is looked for by the names in `needed`.

    Cells are separated by commas, semicolons, tabs or bars. Passed over are lines that begin with #, empty rows, a
    title or a block above the header that an empty line separates, and repetitions of the header.

    Raises:
        ValueError: the text is no CSV, two columns share a name, or a row has another length.
    """
    try:
        separator, text = _separator(text)
        rows = _parsed(text, separator)
    except csv.Error as error:
        raise ValueError(f"{file} cannot be read as CSV ({error}); export it again") from error
    filled = [row for row in rows if any(row[1])]
    if not filled:
        raise ValueError(f"{file} is empty; give a CSV file with a header")
    at = _header_at(rows, needed)
    header, below = rows[at][1], [row for row in rows[at + 1 :] if any(row[1]) and row[1] != rows[at][1]]
    while not header[-1] and all(not any(cells[len(header) - 1 :]) for _, cells in below):
        header = header[:-1]
    if len(set(header)) != len(header):
        raise ValueError(f"{file}: two columns share a name in {', '.join(header)}; rename one")
    return Sheet(header, [(line, _fitted(file, line, cells, len(header))) for line, cells in below], separator)


def check_columns(file: str, header: Sequence[str], needed: Sequence[str], where: str) -> None:
    """Raise ValueError unless each of the `needed` columns is in the header."""
    for name in needed:
        if name not in header:
            raise ValueError(f"{file} has no column {name}; it has {', '.join(header)}; correct {where} or the file")


def _fitted(file: str, line: int, cells: list[str], columns: int) -> list[str]:
    """`cells`, without empty ones beyond the last column."""
    while len(cells) > columns and not cells[-1]:
        cells = cells[:-1]
    if len(cells) != columns:
        raise ValueError(f"{file}, row {line}: {len(cells)} cells under {columns} columns; fix the row")
    return cells


def _parsed(text: str, separator: str) -> list[CsvRow]:
    """All rows but comments; an empty line is a row without cells."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    return [
        (reader.line_num, [cell.strip() for cell in cells])
        for cells in reader
        if not (cells and cells[0].startswith("#"))
    ]


def _separator(text: str) -> tuple[str, str]:
    """The separator, and the text without a line of Excel's that names it."""
    first, _, rest = text.partition("\n")
    named = first.strip()
    if named.lower().startswith("sep=") and len(named) == 5:
        return named[4], "\n" + rest
    sample = "".join(text.splitlines(keepends=True)[: 2 * _SAMPLE])

    def fit(separator: str) -> tuple[int, bool, int]:
        """(rows as long as most rows are, no other separator in the first cell, columns)"""
        rows = [cells for _, cells in _parsed(sample, separator) if any(cells)]
        counts = Counter(len(cells) for cells in rows if len(cells) > 1)
        if not counts:
            return 0, False, 0
        columns, agreeing = counts.most_common(1)[0]
        header = next(cells for cells in rows if len(cells) == columns)
        return agreeing, not any(other in header[0] for other in SEPARATORS if other != separator), columns

    return max(SEPARATORS, key=fit), text


def _header_at(rows: Sequence[CsvRow], needed: Sequence[str]) -> int:
    """The index of the header: the first row, unless titles or a block of its own stand above the table."""
    sample = rows[:_SAMPLE]
    filled = [at for at, (_, cells) in enumerate(sample) if any(cells)]
    first = filled[0] if filled else next(at for at, (_, cells) in enumerate(rows) if any(cells))
    if needed and set(needed) <= set(rows[first][1]):
        return first
    counts = Counter(len(rows[at][1]) for at in filled if len(rows[at][1]) > 1)
    if not counts:
        return first
    columns = counts.most_common(1)[0][0]
    begins = next(at for at in filled if len(rows[at][1]) == columns)
    above = [rows[at][1] for at in filled if at < begins]
    titles = all(len(cells) == 1 or not any(cells[1:]) for cells in above)
    return begins if titles or not any(rows[begins - 1][1]) else first
