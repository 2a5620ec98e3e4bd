"""Data sets from a folder of the user's own (`data=parquet`, `data=text`), converted once into a corpus.

The corpus is keyed by the settings and by the names, sizes and times of the files, so that a changed folder gives a
new corpus. Files are read piece by piece; none is held in memory as a whole, unless a single document is that large.
"""

import codecs
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fednano.config.paths import UserPath
from fednano.core.files import made_once
from fednano.core.progress import Progress
from fednano.core.text import encoding_of, shown, utf8
from fednano.data.dataset import (
    keyed,
    require_column,
    require_fraction,
    require_text,
    require_text_column,
    require_whole,
    root_folder,
)
from fednano.data.found import found_in
from fednano.data.manifest import MANIFEST, Manifest
from fednano.data.partition import Partition
from fednano.data.shards import Corpus
from fednano.data.writer import Document, write_corpus

READ_CHARS = 1 << 20
READ_ROWS = 1000


@dataclass(frozen=True, kw_only=True)
class ParquetFolder:
    """Rows of Parquet files. Documents are in `text_column`; null and blank ones are skipped.

    The source of a row is its `source_column`, or if that is None the top-level sub-folder of its file.
    """

    root: UserPath
    path: UserPath
    pattern: str
    text_column: str
    source_column: str | None
    validation_fraction: float
    partition: Partition

    def __post_init__(self) -> None:
        _require_common(self.root, self.path, self.pattern, self.validation_fraction)
        require_text("data.text_column", self.text_column)
        if self.source_column is not None:
            require_text("data.source_column", self.source_column)

    def check(self) -> None:
        """Raise ValueError if the folder, matching files or, in the first file, the columns are missing."""
        root_folder(self.root)
        if _kept(self) is None:
            self._open(found_in(self.path, self.pattern).files[0])

    def ensure(self, progress: Progress) -> Corpus:
        """The corpus; converted first if the folder in its present state has none yet."""
        return _converted(self, progress)

    def own_settings(self) -> tuple[str, dict[str, Any]]:
        """The name of its corpora, and the settings that no other kind of folder has."""
        return "parquet", {"text_column": self.text_column, "source_column": self.source_column}

    def documents(self, file: Path) -> Iterator[Document]:
        """(text, source) of every row of `file`. Raises ValueError if a column is missing or does not hold strings."""
        folder = Path(self.path).expanduser()
        fallback = _sub_folder(file, folder) or utf8(folder.resolve().name)
        columns = [self.text_column, *([self.source_column] if self.source_column else [])]
        for batch in self._batches(file, columns):
            texts = batch[self.text_column]
            named = batch[self.source_column] if self.source_column else [None] * len(texts)
            for text, source in zip(texts, named, strict=True):
                if text is not None:
                    yield text, fallback if source is None else str(source)

    def _batches(self, file: Path, columns: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
        """The values of `columns`, some rows at a time."""
        batches = self._open(file).iter_batches(batch_size=READ_ROWS, columns=list(columns))
        while True:
            try:
                batch = next(batches, None)
                values = None if batch is None else {name: batch.column(name).to_pylist() for name in columns}
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                raise ValueError(
                    f"data.path must hold whole Parquet files with text in UTF-8, got {shown(file)} ({error}); "
                    "write it again or narrow data.pattern"
                ) from error
            if values is None:
                return
            yield values

    def _open(self, file: Path) -> Any:
        try:
            parquet = pq.ParquetFile(file)
        except pa.ArrowException as error:
            raise ValueError(
                f"data.path must hold Parquet files, got {shown(file)} ({error}); narrow data.pattern or replace the "
                "file"
            ) from error
        except OSError as error:
            raise _unreadable(file, error) from error
        schema = parquet.schema_arrow
        require_text_column(self.text_column, schema, shown(file))
        if self.source_column is not None:
            require_column("data.source_column", self.source_column, schema, shown(file))
        return parquet


@dataclass(frozen=True, kw_only=True)
class TextFolder:
    """Text files in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    A file is one document, or several with `separator` between them.

    A document longer than `document_chars` is cut at blank lines (without any, at line ends) into pieces of about that
    length; None cuts nothing. The source is the top-level sub-folder, or without one the file's stem.
    """

    root: UserPath
    path: UserPath
    pattern: str
    separator: str | None
    document_chars: int | None
    validation_fraction: float
    partition: Partition

    def __post_init__(self) -> None:
        _require_common(self.root, self.path, self.pattern, self.validation_fraction)
        if self.separator is not None:
            require_text("data.separator", self.separator)
        if self.document_chars is not None:
            require_whole("data.document_chars", self.document_chars, 1)

    def check(self) -> None:
        """Raise ValueError if the folder or matching files are missing."""
        root_folder(self.root)
        if _kept(self) is None:
            found_in(self.path, self.pattern)

    def ensure(self, progress: Progress) -> Corpus:
        """The corpus; converted first if the folder in its present state has none yet."""
        return _converted(self, progress)

    def own_settings(self) -> tuple[str, dict[str, Any]]:
        """The name of its corpora, and the settings that no other kind of folder has."""
        return "text", {"separator": self.separator, "document_chars": self.document_chars}

    def documents(self, file: Path) -> Iterator[Document]:
        """(text, source) of every document in `file`. Raises ValueError if it cannot be read as text."""
        source = _sub_folder(file, Path(self.path).expanduser()) or utf8(file.stem)
        try:
            for text in pieces(_read(file), self.separator, self.document_chars):
                yield text, source
        except UnicodeDecodeError as error:
            raise ValueError(
                f"data.path must hold UTF-8 files, got {shown(file)} ({error.reason} at byte {_undecodable(file)}); "
                "convert it or narrow data.pattern"
            ) from error
        except OSError as error:
            raise _unreadable(file, error) from error


def pieces(chunks: Iterator[str], separator: str | None, document_chars: int | None) -> Iterator[str]:
    """The documents of a text given in `chunks`, split at `separator`, then cut to `document_chars`."""
    rest = ""
    for chunk in chunks:
        rest += chunk
        if separator is not None:
            *whole, rest = rest.split(separator)
            for document in whole:
                yield from _cut(document, document_chars)
        elif document_chars is not None:
            *whole, rest = _cut(rest, document_chars)
            yield from whole
    yield from _cut(rest, document_chars)


def _cut(text: str, document_chars: int | None) -> list[str]:
    """`text` in pieces that end at the last blank line within the limit, else at a line end, else anywhere."""
    if document_chars is None:
        return [text]
    found: list[str] = []
    start = 0
    while len(text) - start > document_chars:
        limit = start + document_chars
        breaks = (text.rfind(mark, start + 1, limit) + len(mark) for mark in ("\n\n", "\n"))
        end = next((at for at in breaks if at > start + 1), limit)
        found.append(text[start:end])
        start = end
    return [*found, text[start:]]


def _read(file: Path) -> Iterator[str]:
    with file.open("rb") as opened:
        encoding = encoding_of(opened.read(4))
    with file.open(encoding=encoding) as opened_text:
        while chunk := opened_text.read(READ_CHARS):
            if 5 * chunk.count("\0") > len(chunk):
                raise ValueError(
                    f"data.path must hold text files, got {shown(file)}, which is full of zero bytes as UTF-16 is "
                    "without a byte order mark; convert it to UTF-8 or narrow data.pattern"
                )
            yield chunk


def _unreadable(file: Path, error: OSError) -> ValueError:
    return ValueError(
        f"data.path must hold files that can be read, got {shown(file)} ({error.strerror or error}); "
        "change its permissions or narrow data.pattern"
    )


def _undecodable(file: Path) -> int:
    """The offset of the first byte in `file` that is no text in its encoding."""
    with file.open("rb") as opened:
        encoding = encoding_of(opened.read(4))
        opened.seek(0)
        decoder, start = codecs.getincrementaldecoder(encoding)(), 0
        while True:
            held = len(decoder.getstate()[0])
            chunk = opened.read(READ_CHARS)
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                return start - held + error.start
            if not chunk:
                return start
            start += len(chunk)


def _sub_folder(file: Path, folder: Path) -> str | None:
    parts = file.relative_to(folder).parts
    return utf8(parts[0]) if len(parts) > 1 else None


def _require_common(root: str, path: str, pattern: str, validation_fraction: float) -> None:
    require_text("data.root", root)
    require_text("data.path", path)
    require_text("data.pattern", pattern)
    require_fraction("data.validation_fraction", validation_fraction)


def _settings(data: ParquetFolder | TextFolder) -> tuple[str, dict[str, Any]]:
    """The name of its corpora, and all settings that their content depends on."""
    name, own = data.own_settings()
    return name, own | {
        "path": str(Path(data.path).expanduser().resolve()),
        "pattern": data.pattern,
        "validation_fraction": data.validation_fraction,
    }


def _kept(data: ParquetFolder | TextFolder) -> Corpus | None:
    """The corpus once made of a folder that is gone; None if the folder exists, or nothing was made of it.

    Raises ValueError if the folder had several states, since it cannot tell which of them is meant.
    """
    if Path(data.path).expanduser().exists():
        return None
    made_of = _settings(data)
    found: dict[str, Path] = {}  # by content
    for folder in sorted(root_folder(data.root).glob(f"{made_of[0]}-*/")):
        with suppress(ValueError):  # not a corpus, or a damaged one
            manifest = Manifest.read(folder)
            if (manifest.name, manifest.settings) == made_of:
                found.setdefault(manifest.sha256(), folder)
    if len(found) > 1:
        raise ValueError(
            f"data.path={data.path} does not exist any more, and data.root={data.root} holds {len(found)} corpora made "
            f"of it at different times; restore the folder, or move all but one of these away: "
            f"{', '.join(folder.name for folder in found.values())}"
        )
    return Corpus.open(next(iter(found.values()))) if found else None


def _converted(data: ParquetFolder | TextFolder, progress: Progress) -> Corpus:
    kept = _kept(data)
    if kept is not None:
        return kept
    name, settings = _settings(data)
    found = found_in(data.path, data.pattern)
    root = root_folder(data.root)
    states = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in found.files]
    folder = root / keyed(name, settings, states)

    def make(partial: Path) -> None:
        if others := found.others():
            progress.note(f"{shown(data.path)}: left out {others}; data.pattern={data.pattern} names what is read")
        write_corpus(
            partial,
            name,
            settings,
            _documents(data, found.files, progress),
            origin=f"data.path={shown(data.path)}",
            validation_fraction=data.validation_fraction,
        )

    # Earlier versions kept the files' names as they were given.
    relative = [(os.path.relpath(file), *state) for file, *state in states]
    if not (folder / MANIFEST).exists() and (old := root / keyed(name, settings, relative) / MANIFEST).exists():
        folder = old.parent
    made_once(folder, MANIFEST, make, progress)
    return Corpus.open(folder, progress)


def _documents(data: ParquetFolder | TextFolder, files: Sequence[Path], progress: Progress) -> Iterator[Document]:
    progress.start(f"reading {shown(data.path)}", len(files), "files")
    try:
        for file in files:
            yield from data.documents(file)
            progress.advance(1)
    finally:
        progress.finish()
