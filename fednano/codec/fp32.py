"""Tensors on the wire as they are: float32, little-endian, row-major."""

import sys
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LITTLE = "<f4"


@dataclass(frozen=True)
class Fp32:
    """Lossless; four bytes a number."""

    name: str = "fp32"

    def size(self, numbers: int) -> int:
        """Encoded bytes of `numbers` scalars."""
        return 4 * numbers

    def encode(self, tensor: Tensor) -> bytes:
        array = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        return array.astype(LITTLE, copy=False).tobytes()

    def decode(self, data: bytes | memoryview, shape: tuple[int, ...]) -> Tensor:
        """The inverse of `encode`. Raises ValueError if `data` is not as long as `shape` needs."""
        array = np.frombuffer(data, dtype=LITTLE)
        expected = int(np.prod(shape, dtype=np.int64))
        if array.size != expected:
            raise ValueError(f"a tensor of shape {shape} needs {4 * expected} bytes, but {len(data)} came")
        if sys.byteorder == "big":
            array = array.astype(np.float32)
        return torch.from_numpy(array.copy()).view(shape)
