"""Algebra on state dicts: plain functions on `dict[str, Tensor]`, for weights and pseudo-gradients."""

import hashlib
import math
from collections.abc import Mapping

import torch
from torch import Tensor

State = dict[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor by its name, in the same order."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def clone(state: Mapping[str, Tensor]) -> State:
    """A detached copy that shares no memory."""
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def subtract(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> State:
    """a − b, name by name, in float32."""
    return {name: a[name].detach().float() - b[name].detach().float() for name in a}


def norm(state: Mapping[str, Tensor]) -> float:
    """Euclidean norm over all entries of all tensors, in any order; NaN or infinite if any entry is."""
    # Squared in place: the copies of a stranger's update take no more memory than they must.
    squares = [float(tensor.detach().to(torch.float64, copy=True).square_().sum()) for tensor in state.values()]
    # An exact sum does not depend on the order of the names, which a file does not keep.
    return math.sqrt(math.fsum(squares))


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
