"""Entries of lists in JSON documents, on their way to a table of cells."""

from collections.abc import Sequence
from typing import Any

from fednano.core.text import brief
from fednano.traces.rows import CsvRow, Sheet


def listed(value: object, key: str) -> list[Any] | None:
    """`value` if it is a list whose first entry is an object with `key`."""
    return value if isinstance(value, list) and value and isinstance(value[0], dict) and key in value[0] else None


def cell(value: object) -> str:
    """A JSON value as a cell; null is an empty one."""
    return "" if value is None else value.strip() if isinstance(value, str) else repr(value)


def field(file: str, at: int, entry: object, key: str) -> object:
    """The value under `key` in the entry `at`, counted from 1. Raises ValueError if there is none."""
    if not isinstance(entry, dict) or key not in entry:
        raise ValueError(
            f"{file}, entry {at} has no {key}: {brief(entry)}; remove the entry, or download the file again"
        )
    value: object = entry[key]
    return value


def table(header: Sequence[str], rows: Sequence[CsvRow]) -> Sheet:
    """A sheet of entries. Those that begin with the latest are turned round."""
    latest_first = len(rows) > 1 and rows[0][1][0] > rows[-1][1][0]
    return Sheet(list(header), list(reversed(rows)) if latest_first else list(rows), noun="entry")
