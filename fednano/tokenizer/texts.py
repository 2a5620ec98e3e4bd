"""Texts for the Rust core in bounded batches: lists of str or bytes, or the buffers of Arrow arrays."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow

# Arrow arrays hold strings or binaries of any width.
Texts = Union[Iterable[str | bytes], "pyarrow.Array", "pyarrow.ChunkedArray"]

BATCH_BYTES = 1 << 23
BATCH_TEXTS = 1 << 16


class Spans(NamedTuple):
    """Texts in one row: text i is data[offsets[i] : offsets[i + 1]]; offsets int64 (n + 1)."""

    data: bytes
    offsets: NDArray[np.int64]


Batch = list[str | bytes] | Spans


def batches(texts: Texts) -> Iterator[Batch]:
    """`texts` in order, a few megabytes at a time.

    Raises ValueError for a single text, for nulls and for Arrow arrays of anything but strings and binaries.
    """
    if isinstance(texts, str | bytes):
        raise ValueError(f"texts is one {type(texts).__name__}; pass a list of texts, such as [text]")
    if type(texts).__module__.startswith("pyarrow."):
        yield from _arrow_batches(texts)
        return
    batch: list[str | bytes] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_BYTES or len(batch) >= BATCH_TEXTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _arrow_batches(array: Any) -> Iterator[Spans]:
    import pyarrow as pa

    if array.null_count:
        raise ValueError(f"texts holds {array.null_count} nulls; take them out with drop_null() or fill_null('')")
    for chunk in array.chunks if isinstance(array, pa.ChunkedArray) else [array]:
        try:
            binary = chunk.cast(pa.large_binary())
        except pa.ArrowException as error:
            raise ValueError(f"texts has the Arrow type {chunk.type}; pass strings or binaries") from error
        _, offset_buffer, data = binary.buffers()
        offsets = np.frombuffer(offset_buffer, np.int64)[binary.offset : binary.offset + len(binary) + 1]
        start = 0
        while start < len(binary):
            stop = int(np.searchsorted(offsets, offsets[start] + BATCH_BYTES))
            stop = min(max(stop, start + 1), len(binary))
            part = offsets[start : stop + 1]
            yield Spans(data.slice(part[0], part[-1] - part[0]).to_pybytes(), part - part[0])
            start = stop


def size(batch: Batch) -> int:
    """About how many bytes: exact but for str, which count by character."""
    return int(batch.offsets[-1]) if isinstance(batch, Spans) else sum(map(len, batch))


def repaired(text: str | bytes) -> str | bytes:
    """`text` with each lone surrogate replaced by U+FFFD, since it has no UTF-8 (tiktoken does the same)."""
    if isinstance(text, bytes):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
