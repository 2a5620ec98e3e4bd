"""Tensors in memory shared between processes of one machine."""

import mmap
import os
import tempfile
from collections.abc import Mapping
from multiprocessing.reduction import DupFd
from typing import Any

import torch
from torch import Tensor

from fednano.core.tensors import State

ALIGNMENT = 64  # bytes, as torch's own allocations

Layout = tuple[tuple[str, tuple[int, ...], torch.dtype], ...]


class SharedState:
    """Shared memory for the tensors of a state. Processes that get it when spawned see each other's writes.

    The memory has no name in the system: it is freed when the last process that has it ends, even by a crash.

    Args:
        like: names, shapes and dtypes; the values are not copied.
    """

    def __init__(self, like: Mapping[str, Tensor]) -> None:
        self._layout: Layout = tuple((name, tuple(tensor.shape), tensor.dtype) for name, tensor in like.items())
        self._file = _nameless()
        os.ftruncate(self._file, max(ALIGNMENT, _ends(self._layout)))
        self.tensors = _mapped(self._layout, self._file)

    def write(self, state: Mapping[str, Tensor]) -> None:
        """Copy `state` in. Raises KeyError for a tensor that is not in the layout."""
        for name, tensor in state.items():
            self.tensors[name].copy_(tensor)

    def close(self) -> None:
        """Close the file, so that no more processes can get the memory; those that have it keep it."""
        os.close(self._file)

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self._layout, DupFd(self._file))


def _received(layout: Layout, sent: Any) -> SharedState:
    shared = SharedState.__new__(SharedState)
    shared._layout, shared._file = layout, sent.detach()
    shared.tensors = _mapped(layout, shared._file)
    return shared


def _nameless() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fednano")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _mapped(layout: Layout, file: int) -> State:
    memory = mmap.mmap(file, max(ALIGNMENT, _ends(layout)))
    tensors, at = {}, 0
    for name, shape, dtype in layout:
        count = torch.Size(shape).numel()
        flat = torch.frombuffer(memory, dtype=dtype, count=count, offset=at) if count else torch.empty(0, dtype=dtype)
        tensors[name] = flat.view(shape)
        at += _padded(shape, dtype)
    return tensors


def _ends(layout: Layout) -> int:
    return sum(_padded(shape, dtype) for _, shape, dtype in layout)


def _padded(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return -(-torch.Size(shape).numel() * dtype.itemsize // ALIGNMENT) * ALIGNMENT
