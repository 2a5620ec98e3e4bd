"""The corpus writer: drops duplicate documents, holds out a validation set, and shuffles the rest into shards.

Everything follows from digests of the texts, so the result depends neither on the order of the documents nor on the
memory allowed. A document's seeded digest is its place in the shuffle, and brings duplicates together. An unseeded
digest decides between training and validation, so that no document ever moves from one to the other.
"""

import hashlib
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fednano.core.failures import naming
from fednano.core.files import sha256_of
from fednano.data.manifest import Manifest, ShardFile, SourceCount, Split
from fednano.data.shards import Corpus

Document = tuple[str, str]  # (text, source)

ROW_GROUP_ROWS = 1000
SCHEMA = pa.schema([("text", pa.string()), ("source", pa.string())])


def write_corpus(
    folder: Path,
    name: str,
    settings: dict[str, Any],
    documents: Iterable[Document],
    *,
    origin: str,
    validation_fraction: float = 0.02,
    seed: int = 0,
    shard_bytes: int = 64 << 20,
    memory_bytes: int = 256 << 20,
) -> Corpus:
    """Write the corpus of `documents` into `folder`, which exists; the manifest is written last.

    The validation set is about `validation_fraction` of the distinct documents: those with the lowest digests, at least
    one; at least one remains for training. `shard_bytes` counts text (UTF-8) per training shard. Beyond `memory_bytes`
    of text, the shuffle uses files in `folder`. Raises ValueError, naming `origin` (the setting that named the
    documents), for fewer than two distinct documents with text.
    """
    spool = _Spool(folder, memory_bytes)
    held_out = _HeldOut(validation_fraction)
    for text, source in documents:
        if not text.isspace() and text:
            encoded = text.encode()
            held_out.see(encoded)
            place = hashlib.blake2b(encoded, digest_size=16, salt=seed.to_bytes(8, "big")).digest()
            spool.add(place, text, source, len(encoded))
    if held_out.lowest >= held_out.highest:
        found = "only one distinct document" if spool.count else "no document with text in it"
        raise ValueError(f"{origin} must hold two distinct documents or more, got {found}; name a place with more text")
    train = _ShardWriter(folder, "train", shard_bytes)
    validation = _ShardWriter(folder, "validation", None)
    for text, source in spool.distinct():
        (validation if held_out.holds(text.encode()) else train).add(text, source)
    files = (*train.close(), *validation.close())
    rows, text_bytes = train.rows_of, train.bytes_of
    sources = {source: SourceCount(rows[source], text_bytes[source]) for source in sorted(rows)}
    Manifest(name=name, settings=settings, files=files, sources=sources).write(folder)
    return Corpus.open(folder)


class _HeldOut:
    """The held-out documents: the lowest `fraction` of all digests, but never none and never all of those seen."""

    def __init__(self, fraction: float) -> None:
        self._limit = int(fraction * 2**64)
        self.lowest = 2**64
        self.highest = -1

    @staticmethod
    def _digest(encoded: bytes) -> int:
        return int.from_bytes(hashlib.blake2b(encoded, digest_size=8, person=b"validation").digest(), "big")

    def see(self, encoded: bytes) -> None:
        digest = self._digest(encoded)
        self.lowest, self.highest = min(self.lowest, digest), max(self.highest, digest)

    def holds(self, encoded: bytes) -> bool:
        digest = self._digest(encoded)
        return digest == self.lowest or (digest < self._limit and digest != self.highest)


class _Spool:
    """Documents by the first byte of their place: in memory, and beyond `memory_bytes` in one file per byte."""

    def __init__(self, folder: Path, memory_bytes: int) -> None:
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._held_bytes = 0
        self._buckets: list[list[tuple[bytes, str, str]]] = [[] for _ in range(256)]
        self._spilled = False
        self.count = 0

    def add(self, place: bytes, text: str, source: str, text_bytes: int) -> None:
        self._buckets[place[0]].append((place, text, source))
        self.count += 1
        self._held_bytes += text_bytes
        if self._held_bytes > self._memory_bytes:
            self._spill()

    def _spill(self) -> None:
        for index, bucket in enumerate(self._buckets):
            with naming(self._file(index)), self._file(index).open("ab") as file:
                pickle.dump(bucket, file)
            bucket.clear()
        self._held_bytes = 0
        self._spilled = True

    def _file(self, index: int) -> Path:
        return self._folder / f"spool_{index:03d}"

    def distinct(self) -> Iterator[Document]:
        """Every distinct document once, by place, with the source seen first. Empties the spool."""
        for index, held in enumerate(self._buckets):
            bucket = [*self._read_back(index), *held] if self._spilled else held
            last = b""
            for place, text, source in sorted(bucket, key=lambda document: document[0]):
                if place != last:
                    yield text, source
                last = place
            held.clear()

    def _read_back(self, index: int) -> Iterator[tuple[bytes, str, str]]:
        path = self._file(index)
        with path.open("rb") as file:
            while file.peek(1):
                yield from pickle.load(file)
        path.unlink()


class _ShardWriter:
    """Writer of one split, by row groups. A new shard begins after `shard_bytes` of text; if that is None, never."""

    def __init__(self, folder: Path, split: Split, shard_bytes: int | None) -> None:
        self._folder = folder
        self._split: Split = split
        self._shard_bytes = shard_bytes
        self._texts: list[str] = []
        self._sources: list[str] = []
        self._parquet: pq.ParquetWriter | None = None
        self._path = folder
        self._rows = self._bytes = 0
        self._files: list[ShardFile] = []
        self.rows_of: Counter[str] = Counter()
        self.bytes_of: Counter[str] = Counter()

    def add(self, text: str, source: str) -> None:
        size = len(text.encode())
        self._texts.append(text)
        self._sources.append(source)
        self._rows += 1
        self._bytes += size
        self.rows_of[source] += 1
        self.bytes_of[source] += size
        if len(self._texts) == ROW_GROUP_ROWS:
            self._write_group()
        if self._shard_bytes is not None and self._bytes >= self._shard_bytes:
            self._end_shard()

    def close(self) -> list[ShardFile]:
        self._end_shard()
        return self._files

    def _write_group(self) -> None:
        with naming(self._path):
            self._write_rows()

    def _write_rows(self) -> None:
        if self._parquet is None:
            number = f"_{len(self._files):05d}" if self._shard_bytes is not None else ""
            self._path = self._folder / f"{self._split}{number}.parquet"
            self._parquet = pq.ParquetWriter(self._path, SCHEMA, compression="zstd")
        columns = [pa.array(self._texts, pa.string()), pa.array(self._sources, pa.string())]
        self._parquet.write_table(pa.table(columns, schema=SCHEMA), row_group_size=ROW_GROUP_ROWS)
        self._texts.clear()
        self._sources.clear()

    def _end_shard(self) -> None:
        if self._texts:
            self._write_group()
        if self._parquet is None:
            return
        with naming(self._path):
            self._parquet.close()
        self._parquet = None
        size = self._path.stat().st_size
        self._files.append(
            ShardFile(
                name=self._path.name,
                split=self._split,
                rows=self._rows,
                text_bytes=self._bytes,
                file_bytes=size,
                sha256=sha256_of(self._path),
            )
        )
        self._rows = self._bytes = 0
