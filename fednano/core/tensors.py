"""Algebra on state dicts: plain functions on `dict[str, Tensor]`, for weights and pseudo-gradients."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import fednano_rustbpe as rust
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

State = dict[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]

BLOCK = 1 << 15  # entries of a block: temporaries of this size stay in the cache, and torch uses one thread for them


class TensorBlock(NamedTuple):
    """A stretch of one tensor: `values`, (n,) float32, are its entries from `start` on, row-major.

    Blocks are read, never changed or kept: they may share memory with what they were decoded from.
    """

    name: str
    start: int
    values: Tensor


class Lazy(Mapping[str, Tensor]):
    """Tensors that are made when asked for: one block after the other by `blocks`, or all at once by name.

    Args:
        shapes: their shapes by name.
        blocks: makes all blocks, in the order of `shapes`; it may be called more than once.
        factor: multiplies every entry.
    """

    def __init__(self, shapes: Shapes, blocks: Callable[[], Iterator[TensorBlock]], factor: float = 1.0) -> None:
        self.shapes = dict(shapes)
        self._blocks, self._factor = blocks, factor
        self._whole: State | None = None

    def blocks(self) -> Iterator[TensorBlock]:
        """All entries, block by block; at no time is there more than one block."""
        for block in self._blocks():
            yield block if self._factor == 1.0 else block._replace(values=block.values * self._factor)

    def scaled(self, factor: float) -> "Lazy":
        """The same tensors with every entry multiplied by `factor`."""
        return Lazy(self.shapes, self._blocks, self._factor * factor)

    def __getitem__(self, name: str) -> Tensor:
        if self._whole is None:
            self._whole = whole(self.shapes, self.blocks())
        return self._whole[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def whole(shapes: Shapes, blocks: Iterator[TensorBlock]) -> State:
    """The tensors of these shapes that the blocks make up."""
    flat = {name: torch.empty(math.prod(shape)) for name, shape in shapes.items()}
    for name, start, values in blocks:
        flat[name][start : start + values.numel()] = values
    return {name: flat[name].view(shape) for name, shape in shapes.items()}


def blocks(state: Mapping[str, Tensor]) -> Iterator[TensorBlock]:
    """All entries of all tensors, block by block; decoded on the way if they are `Lazy`."""
    if isinstance(state, Lazy):
        yield from state.blocks()
        return
    for name, tensor in state.items():
        flat = tensor.detach().reshape(-1)
        for start in range(0, flat.numel(), BLOCK):
            yield TensorBlock(name, start, flat[start : start + BLOCK])


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor by its name, in the same order."""
    if isinstance(state, Lazy):
        return dict(state.shapes)
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def unlike(found: Any, wanted: Mapping[str, Tensor]) -> str | None:
    """In what `found` is not a state with the names, shapes and types of `wanted`; None if it is one."""
    if not isinstance(found, Mapping):
        return type(found).__name__
    for name in sorted({*wanted, *found}, key=str):
        here, there = found.get(name), wanted.get(name)
        if not _alike(here, there):
            return f"{_described(here)} for {name} of {_described(there)}"
    return None


def _alike(one: Any, other: Any) -> bool:
    both = isinstance(one, Tensor) and isinstance(other, Tensor)
    return both and one.shape == other.shape and one.dtype == other.dtype


def _described(tensor: Any) -> str:
    if isinstance(tensor, Tensor):
        return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
    return "nothing" if tensor is None else type(tensor).__name__


def clone(state: Mapping[str, Tensor]) -> State:
    """A detached copy that shares no memory."""
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def scaled(state: Mapping[str, Tensor], factor: float) -> Mapping[str, Tensor]:
    """The tensors times `factor`; `Lazy` ones stay so."""
    if isinstance(state, Lazy):
        return state.scaled(factor)
    return {name: tensor * factor for name, tensor in state.items()}


def subtract(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> State:
    """a − b, name by name, in float32."""
    return {name: a[name].detach().float() - b[name].detach().float() for name in a}


def norm(state: Mapping[str, Tensor]) -> float:
    """Euclidean norm over all entries of all tensors, in any order; NaN or infinite if any entry is."""
    squares = (rust.squares(floats(values)) for _, _, values in blocks(state))
    # An exact sum does not depend on the order of the names, which a file does not keep.
    return math.sqrt(math.fsum(squares))


def floats(tensor: Tensor) -> NDArray[np.float32]:
    """The entries as a flat array, (n,); the tensor's own memory where it is float32 on the CPU."""
    return tensor.detach().to("cpu", torch.float32).contiguous().view(-1).numpy()


def count(state: Mapping[str, Tensor]) -> int:
    """Number of scalars."""
    return sum(tensor.numel() for tensor in state.values())


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the sorted names, shapes and little-endian bytes.

    For each name in sorted order the digest takes in `name`, a newline, the shape as comma-separated decimals, a
    newline, and the row-major bytes of the tensor.
    """
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        shape = ",".join(map(str, tensor.shape))
        sha.update(f"{name}\n{shape}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
