"""The interface of the `data` choices, and checks that several of them share."""

import hashlib
import json
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from fednano.core.files import require_writable
from fednano.core.progress import Progress
from fednano.data.partition import Partition
from fednano.data.shards import Corpus
from fednano.data.strings import holds_text


class Dataset(Protocol):
    """A source of a corpus. `partition` says how rows are dealt to clients; the data set only stores it."""

    @property
    def partition(self) -> Partition: ...

    def check(self) -> None:
        """Check, quickly and without writing, that the corpus can be made. ValueError names key, value and remedy."""

    def ensure(self, progress: Progress) -> Corpus:
        """The corpus, which is made first if it does not exist yet. Raises ValueError as `check` does."""


def require_whole(key: str, value: int, least: int) -> None:
    """ValueError unless `value` is an int of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{key} must be a whole number >= {least}, got {value!r}; set {key}={least} or more")


def require_fraction(key: str, value: float) -> None:
    """ValueError unless 0 < `value` < 1."""
    if not isinstance(value, float | int) or not 0.0 < value < 1.0:
        raise ValueError(f"{key} must be > 0 and < 1, got {value!r}; set, for example, {key}=0.02")


def require_share(key: str, value: float) -> None:
    """ValueError unless 0 <= `value` <= 1."""
    if not isinstance(value, float | int) or not 0.0 <= value <= 1.0:
        raise ValueError(f"{key} must be >= 0 and <= 1, got {value!r}; set, for example, {key}=0.1")


def require_text(key: str, value: str) -> None:
    """ValueError unless `value` is a non-empty string."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} must be a non-empty string, got {value!r}; set it to one")


def require_column(key: str, column: str, schema: pa.Schema, file: str) -> None:
    """ValueError unless a Parquet `file` with this `schema` has the column."""
    if column not in schema.names:
        raise ValueError(f"{key} must be a column of {file}, got {column}; use one of {', '.join(schema.names)}")


def require_text_column(column: str, schema: pa.Schema, file: str) -> None:
    """ValueError unless a Parquet `file` with this `schema` has the column and it holds strings."""
    require_column("data.text_column", column, schema, file)
    kind = schema.field(column).type
    if not holds_text(kind):
        raise ValueError(
            f"data.text_column must be a column of strings, got {column} of type {kind} in {file}; name another one"
        )


def root_folder(root: str) -> Path:
    """`data.root` with `~` resolved. Raises ValueError if it cannot be written; writes nothing."""
    require_text("data.root", root)
    folder = Path(root).expanduser()
    require_writable("data.root", folder)
    return folder


def keyed(name: str, *contents: Any) -> str:
    """The folder name of a corpus made from `contents`; different contents give a different name."""
    digest = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
    return f"{name}-{digest[:12]}"
