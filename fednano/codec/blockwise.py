"""Quantization to 8, 4 or 2 bits per number, with levels for each block of entries."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import fednano_rustbpe as rust
import numpy as np

from fednano.codec.lossy import Bytes, Floats, Lossy, Noise, spans
from fednano.core.tensors import BLOCK

SCALE = 4  # bytes of a float32, scale or level
LEAST_BLOCK = 16
WORTH = 16  # entries per quantile level in a block; with fewer, levels would take more than 2 bits per entry


@dataclass(frozen=True, kw_only=True)
class Quantized(Lossy):
    """Numbers become codes of a few bits, which stand for the levels of their block.

    `levels=absmax`: with a the largest magnitude of the block and Q = 2^bits − 2 (3 for 2 bits), the levels are
    a · (2q − Q)/Q for q = 0 … Q. They are symmetric about 0, end at ±a, and hold 0 itself except at 2 bits, where
    they are ±a/3 and ±a. Error: |x − x̂| <= a/Q · (1 + 2^-13) + 2^-149 with `rounding=nearest`, and twice that with
    `rounding=stochastic`, which rounds to one of the two levels around x at random so that the mean is x. The terms
    with powers of two bound the rounding of float32. A code above Q, which is never sent, decodes to the level that
    would follow.

    `levels=quantile`: the block's values, sorted, are cut into 2^bits bins of equal size, and the levels are the means
    of the bins. Each value is rounded to the nearest level. Error: ‖x − x̂‖² over a block is at most that of the bins'
    means, and so at most ‖x − mean(x)‖². MuLoCo quantizes by statistics in this manner (Thérien et al. 2025,
    2505.23725). It suits values with heavy tails, for which evenly spaced levels lie mostly empty, and costs more time
    and more bytes per block, since all the levels travel. Values beyond the outer levels come out too small, so with
    error feedback their residuals grow for a while.

    Random numbers are those of SplitMix64. A tensor's generator starts at that number of the generator of `seed` whose
    position is the tensor's name, as 8 bytes of its SHA-256; two entries share one of its numbers, found by their
    position. The same seed gives the same bytes on every machine, whatever the order of the tensors.

    A block that is not finite decodes to NaN.

    On the wire, for each tensor: the scales a of all its blocks or the levels of all its blocks, as float32, then the
    codes q, the first ones in the low bits of a byte. Little-endian throughout.

    Args:
        name: see `Lossy`.
        error_feedback: see `Lossy`.
        decay: see `Lossy`.
        bits: 8, 4 or 2 for each entry.
        block: entries that share a scale or levels; a power of two. The last block of a tensor may be shorter.
        levels: absmax: evenly spaced up to the block's largest magnitude; quantile: means of the block's quantile bins
            (2505.23725).
        rounding: nearest or stochastic.
    """

    bits: Literal[2, 4, 8]
    block: int = 256
    levels: Literal["absmax", "quantile"] = "absmax"
    rounding: Literal["nearest", "stochastic"] = "nearest"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits not in (2, 4, 8):
            raise ValueError(f"codec.bits must be 2, 4 or 8, got {self.bits}; use one of them")
        if not LEAST_BLOCK <= self.block <= BLOCK or self.block & (self.block - 1):
            raise ValueError(
                f"codec.block must be a power of two from {LEAST_BLOCK} to {BLOCK}, got {self.block}; 256 costs "
                "1/8 bit per entry"
            )
        if self.levels not in ("absmax", "quantile"):
            raise ValueError(f"codec.levels must be absmax or quantile, got {self.levels}; use one of them")
        if self.rounding not in ("nearest", "stochastic"):
            raise ValueError(f"codec.rounding must be nearest or stochastic, got {self.rounding}; use one of them")
        if self.levels == "quantile" and self.rounding == "stochastic":
            raise ValueError(
                "codec.rounding must be nearest with codec.levels=quantile, got stochastic; use codec.levels=absmax, "
                "since values beyond the outer levels have no two levels around them"
            )
        if self.levels == "quantile" and self.block < WORTH << self.bits:
            raise ValueError(
                f"codec.block must be >= {WORTH << self.bits} with codec.levels=quantile and codec.bits={self.bits}, "
                f"got {self.block}; use 4096 or more, since the levels travel too"
            )

    def tensor_size(self, count: int) -> int:
        return self._scales_size(count) + packed(count, self.bits)

    def encode_tensor(self, values: Floats, noise: Noise, out: Bytes) -> None:
        scales, codes = np.split(out, [self._scales_size(values.size)])
        if self.levels == "quantile":
            rust.encode_quantile(values, self.bits, self.block, scales, codes)
        else:
            drawn = noise if self.rounding == "stochastic" else None
            rust.encode_absmax(values, self.bits, self.block, drawn, scales, codes)

    def decode_tensor(self, data: Bytes, count: int) -> Iterator[Floats]:
        decode = rust.decode_quantile if self.levels == "quantile" else rust.decode_absmax
        scales, codes = np.split(data, [self._scales_size(count)])
        for start, length in spans(count):
            end = start + length
            own_scales = scales[self._scales_size(start) : self._scales_size(end)]
            own_codes = codes[packed(start, self.bits) : packed(end, self.bits)]
            values = np.empty(length, np.float32)
            decode(own_scales, own_codes, self.bits, self.block, values)
            yield values

    def _scales_size(self, count: int) -> int:
        """Bytes of the scales or levels of `count` entries."""
        return SCALE * -(-count // self.block) * (1 if self.levels == "absmax" else 1 << self.bits)


def packed(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take."""
    return -(-count * bits // 8)
