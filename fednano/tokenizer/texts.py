"""Texts for the Rust core in bounded batches: lists of str or bytes, or rows of Arrow arrays without a copy."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, cast

from fednano_rustbpe import ArrowBatch, ArrowBatches


class ArrowArray(Protocol):
    """The Arrow C data interface, as `pyarrow.Array` and others implement it."""

    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[Any, Any]: ...


class ArrowStream(Protocol):
    """The Arrow C stream interface, as `pyarrow.ChunkedArray`, `polars.Series` and others implement it."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any: ...


Arrow = ArrowArray | ArrowStream

# Arrow arrays hold strings or binaries, with offsets of any width or as views.
TextInput = Iterable[str | bytes | Arrow] | Arrow

TextBatch = list[str | bytes] | ArrowBatch

BATCH_BYTES = 1 << 24
BATCH_TEXTS = 1 << 18


def batches(texts: TextInput) -> Iterator[TextBatch]:
    """The texts in order, some megabytes at a time. The rows of an Arrow array are not copied.

    Raises ValueError for a single text, for nulls and for Arrow arrays of anything but strings and binaries; TypeError
    for texts of another type.
    """
    if isinstance(texts, str | bytes):
        raise ValueError(f"texts must be a list of texts, got one {type(texts).__name__}; pass such as [text]")
    if _is_arrow(texts):
        yield from ArrowBatches(texts, BATCH_BYTES, BATCH_TEXTS)
        return
    batch: list[str | bytes] = []
    size = 0
    for text in cast(Iterable[str | bytes | Arrow], texts):
        if not isinstance(text, str | bytes | bytearray):
            if not _is_arrow(text):
                raise TypeError(f"a text is of the type {type(text).__name__}; pass str, bytes or Arrow arrays of them")
            if batch:
                yield batch
                batch, size = [], 0
            yield from batches(text)
            continue
        batch.append(text)
        size += len(text)
        if size >= BATCH_BYTES or len(batch) >= BATCH_TEXTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _is_arrow(texts: object) -> bool:
    return hasattr(texts, "__arrow_c_stream__") or hasattr(texts, "__arrow_c_array__")


def repaired(text: str | bytes) -> str | bytes:
    """`text` with each lone surrogate replaced by U+FFFD, because it has no UTF-8 form (tiktoken does the same)."""
    if isinstance(text, bytes):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
