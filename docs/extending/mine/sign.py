"""Scaled signs with error feedback: EF-SignSGD (Karimireddy et al. 2019, 1901.09847)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from fednano.core.tensors import Shapes, State

SCALE = np.dtype("<f4")


@dataclass(frozen=True, kw_only=True)
class Sign:
    """Sends the sign of each number and the mean magnitude of each group, and adds what is missing to the next update.

    On the wire: for each tensor the means of its groups, then a bit for each number, set if it is negative.

    Args:
        name: what messages call it.
        group: numbers of a tensor that share a mean; with 1, nothing is lost.
    """

    lossless: ClassVar[bool] = False
    name: str = "sign"
    group: int = 4096

    def __post_init__(self) -> None:
        if self.group < 1:
            raise ValueError(f"codec.group must be >= 1, got {self.group}; 4096 costs 1/128 bit per number")

    def size(self, shapes: Shapes) -> int:
        return sum(self._means_size(count) + -(-count // 8) for count in map(math.prod, shapes.values()))

    def encode(self, tensors: State, kept: State, seed: int) -> tuple[bytes, State]:
        parts: list[bytes] = []
        residual: State = {}
        for name, tensor in tensors.items():
            whole = tensor + kept[name] if name in kept else tensor
            flat = whole.reshape(-1).numpy()
            starts = np.arange(0, flat.size, self.group)
            sums = np.add.reduceat(np.abs(flat), starts, dtype=np.float64)
            means = (sums / np.diff(starts, append=flat.size)).astype(SCALE)
            negative = np.signbit(flat)
            parts += [means.tobytes(), np.packbits(negative).tobytes()]
            residual[name] = whole - torch.from_numpy(self._values(means, negative)).view_as(tensor)
        return b"".join(parts), residual

    def decode(self, data: bytes | memoryview, shapes: Shapes) -> State:
        if len(data) != self.size(shapes):  # a stranger may have sent them
            raise ValueError(f"the signs of these tensors take {self.size(shapes)} bytes, but {len(data)} came")
        state: State = {}
        received, at = np.frombuffer(data, np.uint8), 0
        for name, shape in shapes.items():
            count = math.prod(shape)
            signs = at + self._means_size(count)
            end = signs + -(-count // 8)
            negative = np.unpackbits(received[signs:end], count=count).astype(bool)
            values = self._values(np.frombuffer(received[at:signs].tobytes(), SCALE), negative)
            state[name] = torch.from_numpy(values).view(shape)
            at = end
        return state

    def _means_size(self, count: int) -> int:
        return SCALE.itemsize * -(-count // self.group)

    def _values(self, means: NDArray[np.float32], negative: NDArray[np.bool_]) -> NDArray[np.float32]:
        """The mean of its group for each number, with its sign."""
        magnitudes = np.repeat(means.astype(np.float32), self.group)[: negative.size]
        return np.where(negative, -magnitudes, magnitudes)
