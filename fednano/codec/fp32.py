"""The lossless codec: float32, little-endian, row-major, one tensor after the other."""

import math
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fednano.codec.base import Direction
from fednano.core.tensors import Shapes, State

LITTLE = "<f4"
NUMBER = 4  # bytes


@dataclass(frozen=True)
class Fp32:
    """Lossless, at four bytes per number."""

    lossless: ClassVar[bool] = True
    name: str = "fp32"

    def size(self, shapes: Shapes, direction: Direction) -> int:
        return NUMBER * sum(map(math.prod, shapes.values()))

    def encode(self, tensors: State, direction: Direction, kept: State) -> tuple[bytes, State]:
        return b"".join(map(_bytes_of, tensors.values())), kept

    def decode(self, data: bytes | memoryview, shapes: Shapes, direction: Direction) -> State:
        expected = self.size(shapes, direction)
        if len(data) != expected:
            raise ValueError(f"an update in float32 must have {expected} bytes for these shapes, got {len(data)}")
        numbers = np.frombuffer(data, dtype=LITTLE)
        if sys.byteorder == "big":
            numbers = numbers.astype(np.float32)
        state, at = {}, 0
        for name, shape in shapes.items():
            count = math.prod(shape)
            state[name] = torch.from_numpy(numbers[at : at + count].copy()).view(shape)
            at += count
        return state


def _bytes_of(tensor: Tensor) -> bytes:
    array = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
    return array.astype(LITTLE, copy=False).tobytes()
