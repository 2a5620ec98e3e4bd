"""Readers of training files: small texts as bytes, large ones mapped into memory, parquet some megabytes at a time."""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

# Smaller files are read as bytes, because the core takes many texts at once but only one Arrow array at a time.
MAPPED_BYTES = 1 << 22
PARQUET_BYTES = 1 << 24
TEXT_TYPES = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")


def file_texts(paths: Paths, column: str) -> tuple[Iterator[Any], int]:
    """The texts of all files, as bytes or `pyarrow.Array`s, and their approximate number of bytes.

    A parquet file counts by the uncompressed size of its column. All files are checked before the first is read.
    Raises FileNotFoundError for a missing file; ValueError for a folder, an unreadable or damaged file, and a column
    that is missing or holds no text.
    """
    named = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not named:
        raise ValueError("paths is empty; name at least one file")
    files = [_checked(Path(path), column) for path in named]
    return _read(files, column), sum(size for _, size in files)


def _read(files: list[tuple[Path, int]], column: str) -> Iterator[Any]:
    for path, size in files:
        if _is_parquet(path):
            yield from _parquet_rows(path, column)
        elif size < MAPPED_BYTES:
            yield path.read_bytes()
        else:
            yield _mapped(path)


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _checked(path: Path, column: str) -> tuple[Path, int]:
    """The file and its approximate number of bytes of text."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"paths names {path}, which does not exist; name existing files") from error
    if stat.S_ISDIR(status.st_mode):
        raise ValueError(f"paths names the folder {path}; name its files, such as sorted(Path(folder).rglob('*.txt'))")
    if not stat.S_ISREG(status.st_mode) or not os.access(path, os.R_OK):
        raise ValueError(f"paths names {path}, which cannot be read; change its permissions or leave it out")
    return path, _column_size(path, column) if _is_parquet(path) else status.st_size


def _column_size(path: Path, column: str) -> int:
    """Uncompressed bytes of the column, according to the footer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema, size = file.schema_arrow, _column_bytes(file, column)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    if column not in schema.names:
        raise ValueError(f"column={column} is not in {path}; it has: {', '.join(schema.names)}")
    kind = schema.field(column).type
    if str(kind) not in TEXT_TYPES:
        raise ValueError(f"column={column} holds {kind} in {path}; name a column of strings or binaries")
    return size


def _column_bytes(file: Any, column: str) -> int:
    groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
    chunks = (group.column(at) for group in groups for at in range(group.num_columns))
    return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema == column)


def _parquet_rows(path: Path, column: str) -> Iterator[Any]:
    """The rows of the column without nulls, which hold no text to count."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            row_bytes = _column_bytes(file, column) / max(1, file.metadata.num_rows)
            rows = min(max(int(PARQUET_BYTES / max(1.0, row_bytes)), 1 << 6), 1 << 16)
            for batch in file.iter_batches(rows, columns=[column]):
                texts = batch.column(0)
                # Arrow cannot drop nulls from views.
                yield texts.cast(pa.large_binary()).drop_null() if texts.null_count else texts
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} is not an intact parquet file ({' '.join(str(error).split())}); create it again or leave it out"
    )


def _mapped(path: Path) -> Any:
    """The file as one text, mapped: (1,) large_binary."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        data = file.read_buffer()
    offsets = pa.py_buffer(np.array([0, data.size], np.int64))
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, data])
