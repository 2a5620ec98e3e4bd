"""What a publisher's file is read as: a table of cells, with what its publisher says about the columns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fednano.traces.rows import Sheet

CARBON = "g/kWh"
INSTANCES = "instances"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A table of cells.

    Args:
        sheet: header and rows.
        time_column: the column of the stamps.
        columns: those that are read unless others are named.
        names: short names of columns.
        units: of columns, such as g/kWh, once their values are multiplied by `factor`; others are not known.
        factor: by which values are multiplied.
        note: what was done to the file, for the line about it.
        open_tail: whether rows without a value may follow the last that has one, which are then left out.
    """

    sheet: Sheet
    time_column: str
    columns: Sequence[str]
    names: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    factor: float = 1.0
    note: str = ""
    open_tail: bool = False


# (sheet, columns that the user names, file): None if the sheet is not the publisher's.
SheetReader = Callable[[Sheet, Sequence[str], str], Published | None]
# (JSON document, file): None if the document is not the publisher's.
DocumentReader = Callable[[object, str], Published | None]


@dataclass(frozen=True)
class TraceFormat:
    """How a publisher's CSV and JSON files are read; None: it publishes none.

    Readers raise ValueError, which names file, entry and remedy, if the file is the publisher's but damaged.
    """

    sheet: SheetReader | None = None
    document: DocumentReader | None = None
