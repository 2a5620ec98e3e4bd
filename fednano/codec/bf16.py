"""bfloat16: the upper half of each float32, little-endian, row-major, one tensor after the other."""

from collections.abc import Iterator
from dataclasses import dataclass

import fednano_rustbpe as rust
import numpy as np

from fednano.codec.lossy import Bytes, Floats, Lossy, Noise, spans

NUMBER = 2  # bytes


@dataclass(frozen=True, kw_only=True)
class Bf16(Lossy):
    """Two bytes per number, rounded to the nearest bfloat16, ties to even.

    Error: |x − x̂| <= 2^-8 |x| + 2^-134; the second term counts for denormal numbers alone. A finite number beyond the
    largest bfloat16 becomes that.
    """

    name: str = "bf16"

    def tensor_size(self, count: int) -> int:
        return NUMBER * count

    def encode_tensor(self, values: Floats, noise: Noise, out: Bytes) -> None:
        rust.encode_bf16(values, out)

    def decode_tensor(self, data: Bytes, count: int) -> Iterator[Floats]:
        for start, length in spans(count):
            values = np.empty(length, np.float32)
            rust.decode_bf16(data[NUMBER * start : NUMBER * (start + length)], values)
            yield values
