"""Columns from one file or several, as sites are dealt them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fednano.traces.table import Table, read_table

SourceColumns = dict[str, tuple[Table, str]]  # by name: the table, and the column in it


def read_sources(
    file: str | Sequence[str],
    time_column: str | None,
    columns: Sequence[str] | Mapping[str, str] | None,
    where: str,
    form: str | None,
) -> SourceColumns:
    """The columns of a file by their names. Those of several files are named after their files.

    Args:
        file: one file, or a list; each gives its columns, in the order of the list.
        time_column: the column of the stamps in each file; None: the publisher's, or the first.
        columns: names of columns in each file, or the one of each client; None: the publisher's main ones, or all. With
            several files, the column of a client is given by the name of its file.
        where: the configuration key that messages name.
        form: whose files they are; None: as their content says.

    Raises:
        ValueError: `read_table` refuses a file, or there is none, or two have one name.
    """
    if isinstance(file, str):
        names = list(dict.fromkeys(columns.values() if isinstance(columns, Mapping) else columns or []))
        table = read_table(file, time_column, names or None, where, form)
        return {name: (table, name) for name in table.columns}
    if not file:
        raise ValueError(
            f"{where}.file must name at least one file, got []; give one, or a list such as [A.csv, B.csv]"
        )
    names = [] if isinstance(columns, Mapping) else list(columns or [])
    found: SourceColumns = {}
    for each in file:
        table = read_table(each, time_column, names or None, where, form)
        for column in table.columns:
            stem = Path(each.removeprefix("package:")).stem
            name = stem if len(table.columns) == 1 else f"{stem}: {column}"
            if name in found:
                raise ValueError(f"{where}.file must name files of different names, got {name} twice; rename one")
            found[name] = (table, column)
    wanted = list(columns.values()) if isinstance(columns, Mapping) else []
    if missing := next((name for name in wanted if name not in found), None):
        raise ValueError(f"{where}.columns names {missing}, which is none of {', '.join(found)}; name files there")
    return found
