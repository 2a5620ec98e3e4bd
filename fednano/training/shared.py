"""Tensors in memory that several processes of a machine see at once."""

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
    """Room for the tensors of a state. A process passes it to those that it spawns; what one writes, all see.

    The memory has no name anywhere: it is gone with the last process that has it, however that ends.

    Args:
        like: names, shapes and dtypes; the values are not taken over.
    """

    def __init__(self, like: Mapping[str, Tensor]) -> None:
        self._layout: Layout = tuple((name, tuple(tensor.shape), tensor.dtype) for name, tensor in like.items())
        self._file = _nameless()
        os.ftruncate(self._file, max(ALIGNMENT, _ends(self._layout)))
        self.tensors = _mapped(self._layout, self._file)

    def write(self, state: Mapping[str, Tensor]) -> None:
        """Copy `state` in. KeyError for a tensor that there is no room for."""
        for name, tensor in state.items():
            self.tensors[name].copy_(tensor)

    def close(self) -> None:
        """Pass it to no more processes; who has it keeps it."""
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
