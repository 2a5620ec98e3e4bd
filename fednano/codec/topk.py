"""Top-k sparsification: the numbers of largest magnitude of each chunk of a tensor, as float32 or in 2 bits."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import fednano_rustbpe as rust
import numpy as np

from fednano.codec.blockwise import packed
from fednano.codec.lossy import Bytes, Floats, Lossy, Noise, spans
from fednano.core.tensors import BLOCK

VALUE = np.dtype("<f4")
LEAST_CHUNK = 16
BITS = 2  # of a value with values=int2
PER_BYTE = 8 // BITS


@dataclass(frozen=True, kw_only=True)
class TopK(Lossy):
    """Sends k of every `chunk` entries of each tensor; the others decode to 0.

    Of equal magnitudes, the first ones are sent. The last chunk of a tensor may be shorter; the same share of it is
    sent, rounded up.

    Error with `values=fp32`: ‖x − x̂‖² <= (1 − k/chunk) ‖x‖² for every chunk and every tensor; what is sent is exact.
    With `values=int2` what is sent becomes one of four levels, the means of the quantile bins of all values v that are
    sent of the tensor (`Quantized` with levels=quantile), which adds at most ‖v − mean(v)‖² to a tensor's error.

    With `error_feedback=true`, `decay=null` (0.95) and `values=int2` it is the codec of SparseLoCo (Sarfi et al. 2025,
    2508.15706), in which the residual also takes the place of the outer optimizer's momentum.

    Entries that are not finite count as larger than all others. They are sent, and with int2 make all values NaN.

    On the wire, for each tensor: the index of each value within its chunk, ascending in a chunk, in as many bits as
    chunk − 1 has, the first ones in the low bits of a byte; then the values as float32, or the four levels as float32
    and codes of 2 bits. Little-endian throughout.

    Args:
        name: see `Lossy`.
        error_feedback: see `Lossy`.
        decay: see `Lossy`.
        chunk: entries of a chunk; a power of two.
        k: entries of a chunk that are sent.
        values: fp32; or int2, four levels per tensor.
    """

    sparse: ClassVar[bool] = True
    usual_decay: ClassVar[float] = 0.95
    name: str = "topk"
    chunk: int = 4096
    k: int = 64
    values: Literal["fp32", "int2"] = "fp32"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not LEAST_CHUNK <= self.chunk <= BLOCK or self.chunk & (self.chunk - 1):
            raise ValueError(
                f"codec.chunk must be a power of two from {LEAST_CHUNK} to {BLOCK}, got {self.chunk}; 4096 is usual"
            )
        if not 1 <= self.k <= self.chunk:
            raise ValueError(
                f"codec.k must be >= 1 and <= codec.chunk={self.chunk}, got {self.k}; codec.k={self.chunk // 64 or 1} "
                "sends one entry in 64"
            )
        if self.values not in ("fp32", "int2"):
            raise ValueError(f"codec.values must be fp32 or int2, got {self.values}; use one of them")

    def tensor_size(self, count: int) -> int:
        return sum(self._sizes(self._kept(count)))

    def encode_tensor(self, values: Floats, noise: Noise, out: Bytes) -> None:
        sent = np.empty(self._kept(values.size), np.float32)
        indices, levels, codes = self._parts(out, sent.size)
        rust.encode_topk(values, self.chunk, self.k, indices, sent)
        if self.values == "int2":
            rust.encode_quantile(sent, BITS, _one_block(sent.size), levels, codes)
        else:
            codes[:] = sent.astype(VALUE, copy=False).view(np.uint8)

    def decode_tensor(self, data: Bytes, count: int) -> Iterator[Floats]:
        indices, levels, codes = self._parts(data, self._kept(count))
        for start, length in spans(count):
            first = self._kept(start)
            sent = self._sent(levels, codes, first, self._kept(start + length))
            values = np.empty(length, np.float32)
            rust.decode_topk(indices, first, sent, self.chunk, self.k, values)
            yield values

    def _sent(self, levels: Bytes, codes: Bytes, first: int, end: int) -> Floats:
        """The values from number `first` to number `end`."""
        if self.values == "fp32":
            # A copy, since the bytes before may leave the values at any address.
            return codes[VALUE.itemsize * first : VALUE.itemsize * end].view(VALUE).astype(np.float32)
        skipped = first % PER_BYTE
        sent = np.empty(skipped + end - first, np.float32)
        own = codes[first // PER_BYTE : packed(end, BITS)]
        rust.decode_quantile(levels, own, BITS, _one_block(sent.size), sent)
        return sent[skipped:]

    def _kept(self, count: int) -> int:
        """How many of `count` entries are sent."""
        whole, rest = divmod(count, self.chunk)
        return whole * self.k + -(-rest * self.k // self.chunk)

    def _sizes(self, sent: int) -> tuple[int, int, int]:
        """Bytes of indices, levels, and codes or values."""
        indices = packed(sent, self.chunk.bit_length() - 1)
        if self.values == "fp32":
            return indices, 0, VALUE.itemsize * sent
        return indices, VALUE.itemsize << BITS if sent else 0, packed(sent, BITS)

    def _parts(self, data: Bytes, sent: int) -> tuple[Bytes, Bytes, Bytes]:
        indices, levels, _ = self._sizes(sent)
        return data[:indices], data[indices : indices + levels], data[indices + levels :]


def _one_block(count: int) -> int:
    """A block that holds `count` values and ends with a byte."""
    return max(PER_BYTE, -(-count // PER_BYTE) * PER_BYTE)
