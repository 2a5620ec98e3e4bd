"""Top-k sparsification with error feedback (Stich et al. 2018, 1809.07599)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from fednano.core.tensors import Shapes, State

INDEX, VALUE = np.dtype("<i4"), np.dtype("<f4")


@dataclass(frozen=True, kw_only=True)
class TopK:
    """Sends the largest numbers of each tensor, and adds what it dropped to the client's next update.

    On the wire: for each tensor the indices of its k numbers, ascending, then the numbers.

    Args:
        name: what messages call it.
        share: of the numbers of a tensor that are sent; at least one is.
    """

    lossless: ClassVar[bool] = False
    name: str = "topk"
    share: float = 0.05

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise ValueError(f"codec.share must be above 0 and at most 1, got {self.share}; 0.05 sends one in twenty")

    def size(self, shapes: Shapes) -> int:
        return sum(self._count(shape) for shape in shapes.values()) * (INDEX.itemsize + VALUE.itemsize)

    def encode(self, tensors: State, kept: State, seed: int) -> tuple[bytes, State]:
        parts: list[bytes] = []
        residual: State = {}
        for name, tensor in tensors.items():
            whole = (tensor + kept[name] if name in kept else tensor).reshape(-1)
            chosen = whole.abs().topk(self._count(tuple(tensor.shape))).indices.sort().values
            parts += [chosen.numpy().astype(INDEX).tobytes(), whole[chosen].numpy().astype(VALUE).tobytes()]
            residual[name] = whole.index_fill(0, chosen, 0.0).view_as(tensor)
        return b"".join(parts), residual

    def decode(self, data: bytes | memoryview, shapes: Shapes) -> State:
        if len(data) != self.size(shapes):
            raise ValueError(f"top-k of these tensors takes {self.size(shapes)} bytes, but {len(data)} came")
        state: State = {}
        at = 0
        for name, shape in shapes.items():
            count, numbers = self._count(shape), math.prod(shape)
            indices = np.frombuffer(data, INDEX, count, at).astype(np.int64)
            values = np.frombuffer(data, VALUE, count, at + indices.size * INDEX.itemsize)
            at += count * (INDEX.itemsize + VALUE.itemsize)
            if indices.min() < 0 or indices.max() >= numbers:  # a stranger may have sent them
                raise ValueError(f"an index of {name} lies outside its {numbers} numbers")
            flat = torch.zeros(numbers)
            flat[torch.from_numpy(indices)] = torch.from_numpy(values.astype(np.float32))
            state[name] = flat.view(shape)
        return state

    def _count(self, shape: tuple[int, ...]) -> int:
        return max(1, round(self.share * math.prod(shape)))
