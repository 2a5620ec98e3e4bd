"""Values in cells: missing ones, decimal commas and thousands."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence

MISSING = {"", "-", "--", "–", "—", ".", "n/a", "n.a.", "n/e", "n/v", "na", "#n/a", "nan", "null", "none"}
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:[ '’\u00a0\u202f]\d{3})+(?:[.,]\d*)?")
_POINT = re.compile(r"[+-]?(?:\d*|[1-9]\d{0,2}(?:,\d{3})+)(?:\.\d*)?(?:[eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?(?:\d*|[1-9]\d{0,2}(?:\.\d{3})+)(?:,\d*)?(?:[eE][+-]?\d+)?")


def number(cell: str, file: str, line: int, name: str, where: str = "volatility", noun: str = "row") -> float:
    """A value; NaN if the cell is empty or marked as missing. Raises ValueError naming file, row, column and remedy.

    Lines are counted in `noun`s.
    """
    if cell.lower() in MISSING:
        return math.nan
    value = _float(cell)
    if value is None:
        raise ValueError(
            f"{file}, {noun} {line}: {cell!r} under {name} is not a number; write one with a decimal point, leave the "
            f"cell empty, or leave the column out of {where}.columns"
        )
    return value


def read_numbers(
    columns: Mapping[str, Sequence[str]],
    lines: Sequence[int],
    file: str,
    separator: str,
    where: str,
    noun: str = "row",
) -> dict[str, list[float]]:
    """The values of `columns` by name; NaN where one is missing.

    All columns of a file share one decimal mark. It is a point unless a cell can only be read with a comma. Marks of
    thousands are read where no cell can be read in another way.

    Raises ValueError, naming file, row, column and remedy, for a cell that is no number, or that may be two.
    """
    try:
        return {
            name: [number(cell, file, line, name, where, noun) for cell, line in zip(cells, lines, strict=True)]
            for name, cells in columns.items()
        }
    except ValueError as error:
        decimal = _decimal_mark(columns, lines, file, separator, noun)
        if decimal is None:
            raise error
    thousands = {",": ".", ".": ","}[decimal]
    return {
        name: [
            number(_plain(cell).replace(thousands, "").replace(decimal, "."), file, line, name, where, noun)
            if cell.lower() not in MISSING
            else math.nan
            for cell, line in zip(cells, lines, strict=True)
        ]
        for name, cells in columns.items()
    }


def _decimal_mark(
    columns: Mapping[str, Sequence[str]], lines: Sequence[int], file: str, separator: str, noun: str
) -> str | None:
    """The decimal mark with which every cell is a number; None if there is none."""

    def cells() -> Iterator[tuple[str, int, str]]:
        for name, column in columns.items():
            for cell, line in zip(column, lines, strict=True):
                if cell.lower() not in MISSING:
                    yield _plain(cell), line, name

    point = all(_POINT.fullmatch(cell) for cell, _, _ in cells())
    comma = all(_COMMA.fullmatch(cell) for cell, _, _ in cells())
    with_comma = next((found for found in cells() if "," in found[0]), None)
    if point and comma and with_comma and separator != ";":
        cell, line, name = with_comma
        raise ValueError(
            f"{file}, {noun} {line}: the comma in {cell!r} under {name} may mark decimals or thousands; write numbers "
            "with a decimal point and without marks of thousands"
        )
    return "," if comma and with_comma else "." if point else None


def _plain(cell: str) -> str:
    """`cell` with a plain minus, and without spaces or apostrophes between thousands."""
    cell = cell.replace("−", "-")
    return re.sub(r"[ '’\u00a0\u202f]", "", cell) if _GROUPED.fullmatch(cell) else cell


def _float(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    # Python's digit groups: 1_000 may be anything in a file.
    return None if math.isinf(value) or "_" in cell else value
