"""A column of stamps on its way from text to seconds."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StampColumn:
    """Cells of the column `name` with their lines; `begins` are the cells, or the starts of intervals.

    Lines are counted in `noun`s.
    """

    file: str
    name: str
    lines: Sequence[int]
    cells: Sequence[str]
    begins: Sequence[str]
    noun: str = "row"

    def refusal(self, at: int, why: str, quoted: bool = True) -> ValueError:
        """The error that names file, row and stamp of the index `at`."""
        cell = self.cells[at]
        return ValueError(f"{self.file}, {self.noun} {self.lines[at]}: {repr(cell) if quoted else cell} {why}")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Stamps in seconds from any origin.

    Args:
        seconds: one for each stamp.
        first: the first stamp in seconds since 1970, None if it has no date.
        last: the last stamp as the file has it, in seconds since 1970, where a change of the clocks lies between them;
            None: as far from `first` as time passed.
        read_as: how they were read; empty for ISO 8601 and for seconds.
        at_clock_change: indices of stamps within the hour that clocks repeat in autumn.
    """

    seconds: Sequence[float]
    first: float | None = None
    last: float | None = None
    read_as: str = ""
    at_clock_change: frozenset[int] = frozenset()
