"""The lossless codec: float32, little-endian, row-major, one tensor after the other."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fednano.core.tensors import BLOCK, Shapes, State, TensorBlock, whole

LITTLE = np.dtype("<f4")
NUMBER = 4  # bytes


@dataclass(frozen=True)
class Fp32:
    """Lossless, at four bytes per number.

    Args:
        name: what messages call it.
    """

    lossless: ClassVar[bool] = True
    name: str = "fp32"

    def size(self, shapes: Shapes) -> int:
        return NUMBER * sum(map(math.prod, shapes.values()))

    def encode(self, tensors: State, kept: State, seed: int) -> tuple[bytes, State]:
        return b"".join(map(_bytes_of, tensors.values())), kept

    def decode(self, data: bytes | memoryview, shapes: Shapes) -> State:
        return whole(shapes, self.blocks(data, shapes))

    def blocks(self, data: bytes | memoryview, shapes: Shapes) -> Iterator[TensorBlock]:
        expected = self.size(shapes)
        if len(data) != expected:
            raise ValueError(f"an update in float32 must have {expected} bytes for these shapes, got {len(data)}")
        at = 0
        for name, shape in shapes.items():
            count = math.prod(shape)
            for start in range(0, count, BLOCK):
                stretch = np.frombuffer(data, LITTLE, min(BLOCK, count - start), at + NUMBER * start)
                # A copy, since torch wants memory that may be written to; it stays in the cache.
                yield TensorBlock(name, start, torch.from_numpy(stretch.astype(np.float32)))
            at += NUMBER * count


def _bytes_of(tensor: Tensor) -> bytes:
    array = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
    return array.astype(LITTLE, copy=False).tobytes()
