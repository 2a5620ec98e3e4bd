"""A corpus on disk and its reader: Parquet shards with one document per row, and their manifest."""

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fednano.core.failures import StorageError
from fednano.core.files import reading
from fednano.core.progress import Progress, Silent
from fednano.data.manifest import Manifest, ShardFile, Split
from fednano.data.strings import as_strings
from fednano.data.verified import require_digest, verify_once

V = TypeVar("V")
Rows = Sequence[int] | npt.NDArray[np.integer[Any]]

REMADE = "delete its folder to make it again"
# Each client reads at a place of its own; a decoded row group takes a few MB.
CACHED_GROUPS = 32
OPEN_FILES = 64


class Corpus:
    """Documents by global training row id: 0 … `train_rows` − 1, in the order of the shards.

    It holds only the manifest, a few open files and the row groups decoded last. Pickling keeps only the folder, which
    the other process opens for itself.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.name = manifest.name
        self.sha256 = manifest.sha256()
        self.train_rows = manifest.rows("train")
        self.train_bytes = manifest.text_bytes("train")  # UTF-8
        self.validation_rows = manifest.rows("validation")
        self.validation_bytes = manifest.text_bytes("validation")
        self.source_names = tuple(sorted(manifest.sources))
        self._train = manifest.of("train")
        self._starts = np.cumsum([0, *(file.rows for file in self._train)])  # first row id of each shard
        self._files: _Lru[_OpenShard] = _Lru(OPEN_FILES)
        self._groups: _Lru[Any] = _Lru(CACHED_GROUPS)

    @classmethod
    def open(cls, folder: str | Path, progress: Progress | None = None) -> "Corpus":
        """The corpus in `folder`, checked by its manifest.

        Files are compared with their digests once for each state of a file. Raises ValueError if one is missing or
        damaged.
        """
        corpus = cls._opened(Path(folder).expanduser())
        verify_once(corpus.folder, corpus.manifest.files, progress or Silent())
        return corpus

    @classmethod
    def _opened(cls, folder: Path) -> "Corpus":
        """The corpus in `folder`, whose files have the sizes in its manifest."""
        manifest = Manifest.read(folder)
        for file in manifest.files:
            path = folder / file.name
            size = path.stat().st_size if path.exists() else None
            if size != file.file_bytes:
                found = "does not exist" if size is None else f"has {size} bytes"
                raise ValueError(
                    f"{path} {found}, but its manifest says {file.file_bytes}; delete {folder} to make it again"
                )
        return cls(folder, manifest)

    def __reduce__(self) -> tuple[Any, ...]:
        return Corpus._opened, (self.folder,)

    def verify(self) -> None:
        """Read every file again. Raises ValueError for the first whose SHA-256 is not the manifest's."""
        for file in self.manifest.files:
            require_digest(self.folder, file, lambda _: None)

    def texts(self, rows: Rows) -> Any:
        """The documents of `rows` (global training row ids), in that order, as a `pyarrow.ChunkedArray` of strings.

        Raises IndexError outside the corpus.
        """
        ids = np.asarray(rows, dtype=np.int64)
        if ids.size == 0:
            return pa.chunked_array([], pa.string())
        if ids.min() < 0 or ids.max() >= self.train_rows:
            raise IndexError(f"rows must lie in 0…{self.train_rows - 1}, got {ids.min()}…{ids.max()}")
        shard, group, offset = self._locate(ids)
        cuts = np.flatnonzero((np.diff(shard) != 0) | (np.diff(group) != 0)) + 1
        taken: list[Any] = []
        for first, run in zip((0, *cuts), np.split(offset, cuts), strict=True):
            column = self._group(int(shard[first]), int(group[first]))
            taken.append(column.take(pa.array(run)))
        # Shards of one corpus may hold strings with offsets of either width.
        return pa.chunked_array([chunk for texts in taken for chunk in texts.cast(taken[0].type).chunks])

    def sources(self) -> npt.NDArray[np.int32]:
        """(train_rows,) int32: for each training row, the index of its source in `source_names`."""
        column = self.manifest.source_column
        if column is None:
            return np.zeros(self.train_rows, dtype=np.int32)
        names = pa.array(self.source_names, pa.string())
        codes = [pc.index_in(self._column(file, column), names).to_numpy() for file in self._train]
        return np.concatenate(codes).astype(np.int32)

    def held_out_sources(self) -> list[str]:
        """The source of each validation document, in row order."""
        column = self.manifest.source_column
        if column is None:
            return [self.name] * self.validation_rows
        files = self.manifest.of("validation")
        return [name for file in files for name in self._column(file, column).to_pylist()]

    def _column(self, file: ShardFile, column: str) -> Any:
        with reading(self.folder / file.name, REMADE):
            return pq.read_table(self.folder / file.name, columns=[column])[column]

    def iter_texts(self, split: Split) -> Iterator[Any]:
        """The documents of `split` in row order, one `pyarrow.ChunkedArray` of strings per row group."""
        for file in self.manifest.of(split):
            shard = self._open(file)
            for group in range(shard.groups):
                yield shard.read(group)

    def _locate(self, ids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
        """For every row id its shard, its row group in the shard, and its place in the group."""
        shard = np.searchsorted(self._starts, ids, side="right") - 1
        offset = ids - self._starts[shard]
        group = np.empty_like(ids)
        for index in np.unique(shard):
            here = shard == index
            starts = self._open(self._train[index]).group_starts
            group[here] = np.searchsorted(starts, offset[here], side="right") - 1
            offset[here] -= starts[group[here]]
        return shard, group, offset

    def _group(self, shard: int, group: int) -> Any:
        return self._groups.get((shard, group), lambda: self._open(self._train[shard]).read(group))

    def _open(self, file: ShardFile) -> "_OpenShard":
        path = self.folder / file.name
        return self._files.get(file.name, lambda: _OpenShard(path, self.manifest.text_column))


class _OpenShard:
    def __init__(self, path: Path, column: str) -> None:
        self._path = path
        self._column = column
        with _intact(path):
            # Not mapped into memory: the process would be killed if the file became shorter while it is read.
            self._file = pq.ParquetFile(path)
        footer = self._file.metadata
        self.groups: int = footer.num_row_groups
        sizes = [footer.row_group(group).num_rows for group in range(self.groups)]
        self.group_starts = np.cumsum([0, *sizes])

    def read(self, group: int) -> Any:
        """The texts of one row group; a null reads as an empty document, which keeps row ids unchanged."""
        with _intact(self._path):
            return as_strings(self._file.read_row_group(group, columns=[self._column]).column(0)).fill_null("")


@contextmanager
def _intact(path: Path) -> Iterator[None]:
    """Within the block, a shard that cannot be read raises StorageError, which names it."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        cause = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        remedy = f"restore it, or delete {path.parent} to make it again"
        raise StorageError(f"{path} cannot be read ({' '.join(str(cause).split())}); {remedy}") from error


class _Lru(Generic[V]):
    """A cache of the `capacity` values used last."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: OrderedDict[Hashable, V] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        if key not in self._held:
            self._held[key] = make()
            if len(self._held) > self._capacity:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]
