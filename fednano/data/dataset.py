"""What every choice of `data=` can do, and the checks that several of them make."""

import hashlib
import json
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from fednano.core.files import require_writable
from fednano.core.progress import Progress
from fednano.data.partition import Partition
from fednano.data.shards import Corpus


class Dataset(Protocol):
    """A corpus to be; `partition` says how its rows are dealt to clients and is only carried."""

    @property
    def partition(self) -> Partition: ...

    def check(self) -> None:
        """Whether the corpus can be made: quick, without writing. ValueError names key, value and remedy."""

    def ensure(self, progress: Progress) -> Corpus:
        """The corpus, made first where it is not there yet. ValueError as from `check`."""


def require_whole(key: str, value: int, least: int) -> None:
    """ValueError unless `value` is an int of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{key}={value!r} is not a whole number of at least {least}; set {key}={least} or more")


def require_fraction(key: str, value: float) -> None:
    """ValueError unless 0 < `value` < 1."""
    if not isinstance(value, float | int) or not 0.0 < value < 1.0:
        raise ValueError(f"{key}={value!r} does not lie between 0 and 1; set for example {key}=0.02")


def require_share(key: str, value: float) -> None:
    """ValueError unless 0 <= `value` <= 1."""
    if not isinstance(value, float | int) or not 0.0 <= value <= 1.0:
        raise ValueError(f"{key}={value!r} is not a share from 0 to 1; set for example {key}=0.1")


def require_text(key: str, value: str) -> None:
    """ValueError unless `value` is a string with something in it."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key}={value!r} is not a name; set {key} to one")


def require_column(key: str, column: str, schema: pa.Schema, file: str) -> None:
    """ValueError unless a parquet `file` of this `schema` has the column."""
    if column not in schema.names:
        raise ValueError(f"{key}={column} is not in {file}; it has: {', '.join(schema.names)}")


def require_text_column(column: str, schema: pa.Schema, file: str) -> None:
    """ValueError unless a parquet `file` of this `schema` has the column, and strings in it."""
    require_column("data.text_column", column, schema, file)
    kind = schema.field(column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ValueError(f"data.text_column={column} holds {kind} in {file}; name a column of strings")


def root_folder(root: str) -> Path:
    """`data.root` with `~` resolved. ValueError where it cannot be written; writes nothing."""
    require_text("data.root", root)
    folder = Path(root).expanduser()
    require_writable("data.root", folder)
    return folder


def keyed(name: str, *contents: Any) -> str:
    """A folder name for a corpus made from `contents`: other contents, another folder."""
    digest = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
    return f"{name}-{digest[:12]}"
