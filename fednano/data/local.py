"""Data sets from a folder of the user's own (`data=parquet`, `data=text`), converted once into a corpus.

The corpus is keyed by the settings and by the names, sizes and times of the files, so that a changed folder gives a
new corpus. Files are read piece by piece; none is held in memory as a whole, unless a single document is that large.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fednano.config.paths import UserPath
from fednano.core.files import is_stray, made_once, reading
from fednano.core.progress import Progress
from fednano.data.dataset import (
    keyed,
    require_column,
    require_fraction,
    require_text,
    require_text_column,
    require_whole,
    root_folder,
)
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
            self._open(found_files(self.path, self.pattern)[0])

    def ensure(self, progress: Progress) -> Corpus:
        """The corpus; converted first if the folder in its present state has none yet."""
        return _converted(self, progress)

    def own_settings(self) -> tuple[str, dict[str, Any]]:
        """The name of its corpora, and the settings that no other kind of folder has."""
        return "parquet", {"text_column": self.text_column, "source_column": self.source_column}

    def documents(self, file: Path) -> Iterator[Document]:
        """(text, source) of every row of `file`. Raises ValueError if a column is missing or does not hold strings."""
        folder = Path(self.path).expanduser()
        fallback = _sub_folder(file, folder) or folder.resolve().name
        columns = [self.text_column, *([self.source_column] if self.source_column else [])]
        batches = self._open(file).iter_batches(batch_size=READ_ROWS, columns=columns)
        while (batch := self._next(batches, file)) is not None:
            texts = batch.column(self.text_column).to_pylist()
            named = batch.column(self.source_column).to_pylist() if self.source_column else [None] * len(texts)
            for text, source in zip(texts, named, strict=True):
                if text is not None:
                    yield text, fallback if source is None else str(source)

    @staticmethod
    def _next(batches: Iterator[Any], file: Path) -> Any:
        """The next batch, or None after the last. Raises ValueError naming the file if it is torn."""
        with reading(file, "replace it or narrow data.pattern"):
            return next(batches, None)

    def _open(self, file: Path) -> Any:
        try:
            parquet = pq.ParquetFile(file)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"data.path must hold Parquet files, got {file}; narrow data.pattern or replace the file ({error})"
            ) from error
        schema = parquet.schema_arrow
        require_text_column(self.text_column, schema, str(file))
        if self.source_column is not None:
            require_column("data.source_column", self.source_column, schema, str(file))
        return parquet


@dataclass(frozen=True, kw_only=True)
class TextFolder:
    """Text files in UTF-8. A file is one document, or several with `separator` between them.

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
            found_files(self.path, self.pattern)

    def ensure(self, progress: Progress) -> Corpus:
        """The corpus; converted first if the folder in its present state has none yet."""
        return _converted(self, progress)

    def own_settings(self) -> tuple[str, dict[str, Any]]:
        """The name of its corpora, and the settings that no other kind of folder has."""
        return "text", {"separator": self.separator, "document_chars": self.document_chars}

    def documents(self, file: Path) -> Iterator[Document]:
        """(text, source) of every document in `file`. Raises ValueError if it is not UTF-8."""
        source = _sub_folder(file, Path(self.path).expanduser()) or file.stem
        try:
            for text in pieces(_read(file), self.separator, self.document_chars):
                yield text, source
        except (UnicodeDecodeError, OSError) as error:
            reason = error.reason if isinstance(error, UnicodeDecodeError) else error.strerror
            remedy = "convert it or narrow data.pattern"
            raise ValueError(f"data.path must hold UTF-8 files, got {file} ({reason}); {remedy}") from error


def found_files(path: str, pattern: str) -> list[Path]:
    """The files that match `pattern` in the folder `path`, by name; not those that desktops leave there.

    Raises ValueError if there are none.
    """
    folder = Path(path).expanduser()
    if not os.path.exists(folder):  # noqa: PTH110  # False for a name that is too long, where Path raises
        raise ValueError(f"data.path must be a folder that exists, got {path}; name one that holds {pattern}")
    if not folder.is_dir():
        raise ValueError(f"data.path must be a folder, got {path}; name its folder and set data.pattern={folder.name}")
    try:
        files = sorted(file for file in folder.glob(pattern) if file.is_file() and not is_stray(file.name))
    except (ValueError, IndexError, NotImplementedError, OSError) as error:
        raise ValueError(f"data.pattern must be a glob, got {pattern} ({error}); set one like **/*.txt") from error
    if not files:
        raise ValueError(f"data.path must hold files matching data.pattern={pattern}, got {path}; change either one")
    return files


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
    with file.open(encoding="utf-8-sig") as opened:
        while chunk := opened.read(READ_CHARS):
            yield chunk


def _sub_folder(file: Path, folder: Path) -> str | None:
    parts = file.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else None


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
    files = found_files(data.path, data.pattern)
    root = root_folder(data.root)
    states = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    folder = root / keyed(name, settings, states)

    def make(partial: Path) -> None:
        write_corpus(
            partial,
            name,
            settings,
            _documents(data, files, progress),
            origin=f"data.path={data.path}",
            validation_fraction=data.validation_fraction,
        )

    # Earlier versions kept the files' names as they were given.
    relative = [(os.path.relpath(file), *state) for file, *state in states]
    if not (folder / MANIFEST).exists() and (old := root / keyed(name, settings, relative) / MANIFEST).exists():
        folder = old.parent
    made_once(folder, MANIFEST, make, progress)
    return Corpus.open(folder, progress)


def _documents(data: ParquetFolder | TextFolder, files: Sequence[Path], progress: Progress) -> Iterator[Document]:
    progress.start(f"reading {data.path}", len(files), "files")
    try:
        for file in files:
            yield from data.documents(file)
            progress.advance(1)
    finally:
        progress.finish()
