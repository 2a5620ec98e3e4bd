"""A column of time stamps: one reading for all of it, or a refusal.

A misread stamp shifts or stretches a whole run without a word. So the reading is chosen from the whole column, and a
column with two plausible readings is refused.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fednano.traces import calendar, counts
from fednano.traces.column import Reading, StampColumn
from fednano.traces.trace import Array

_ISO_INTERVAL = re.compile(r"(\d{4}-[^/]*)/(?:\d{4}-|P).*")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class Stamps:
    """A column of stamps as read.

    Args:
        times: (n,) seconds since the first.
        first: the first stamp in seconds since 1970, in UTC or in the file's own zone; None if it has no date.
        last: the last one likewise. Where clocks changed, the difference is not the time that passed.
        read_as: how stamps were read, such as "Excel's serial days"; empty for ISO 8601 and for seconds.
    """

    times: Array
    first: float | None
    last: float | None
    read_as: str


def read_stamps(cells: Sequence[str], lines: Sequence[int], file: str, name: str, noun: str = "row") -> Stamps:
    """Read the column `name`, whose lines are counted in `noun`s; an interval counts by its start.

    Raises ValueError, naming file, row, stamp and remedy, if a stamp cannot be read, the column has no reading or more
    than one, or the stamps do not ascend.
    """
    begins = [_begin(cell) for cell in cells]
    column = StampColumn(file=file, name=name, lines=lines, cells=cells, begins=begins, noun=noun)
    numeric = [_NUMBER.fullmatch(cell) is not None for cell in begins]
    if numeric[0] and not all(numeric):
        raise column.refusal(numeric.index(False), f"is not a time; {counts.ISO}")
    reading = counts.read(column) if numeric[0] else calendar.read(column)
    times = np.array(reading.seconds, dtype=np.float64)
    _check_ascending(column, reading, times)
    times = times - times[0]
    last = reading.last
    if last is None and reading.first is not None:
        last = reading.first + float(times[-1])
    return Stamps(times, reading.first, last, reading.read_as)


def is_stamp(cell: str) -> bool:
    """Whether `cell` is a number or a date in any order."""
    begin = _begin(cell)
    return bool(_NUMBER.fullmatch(begin)) or calendar.is_date(begin)


def _begin(cell: str) -> str:
    """The stamp in `cell`; of an interval its start."""
    for dash in (" - ", " – "):
        if dash in cell:
            return cell.partition(dash)[0].strip()
    return match[1] if "/" in cell and (match := _ISO_INTERVAL.fullmatch(cell)) else cell


def _check_ascending(column: StampColumn, reading: Reading, times: Array) -> None:
    wrong = np.flatnonzero(np.diff(times) <= 0)
    if not len(wrong):
        return
    at = int(wrong[0]) + 1
    what = "repeats the stamp before it" if times[at] == times[at - 1] else "is earlier than the row before it"
    if at in reading.at_clock_change:
        raise column.refusal(at, f"{what}, at a change of the clocks; export in UTC")
    raise column.refusal(at, f"{what}; sort the rows and remove duplicates", quoted=False)
