"""The base of lossy codecs: tensors are encoded one after the other, with or without error feedback."""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fednano.core import tensors as algebra
from fednano.core.ranges import Range
from fednano.core.tensors import BLOCK, Shapes, State, TensorBlock, whole

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


class Noise(NamedTuple):
    """Where a tensor's random numbers come from: one of the streams of a SplitMix64 generator."""

    seed: int  # in [0, 2^64), like the stream
    stream: int

    @classmethod
    def of(cls, seed: int, tensor: str) -> "Noise":
        """That of a tensor of this name, wherever it stands: a file does not keep the order of the names."""
        return cls(seed % (1 << 64), int.from_bytes(hashlib.sha256(tensor.encode()).digest()[:8], "little"))


@dataclass(frozen=True, kw_only=True)
class Lossy(ABC):
    """A codec that encodes each tensor by itself, into a number of bytes that follows from its number of entries.

    With error feedback (Karimireddy et al. 2019, 1901.09847) a client keeps what its bytes left out, the residual, and
    encodes e = decay · residual + Δ in place of its update Δ. The next residual is e − decode(bytes). If that is not
    finite, the server refuses the update, and the client keeps the residual that it had.

    Args:
        name: what messages call it.
        error_feedback: whether clients keep a residual: what an update's bytes leave out joins the client's next
            update. It takes a float32 for each parameter of the model.
        decay: factor on the residual at each update; below 1, what was left out is forgotten in time. None: 1
            without error feedback, otherwise the codec's usual one.
    """

    lossless: ClassVar[bool] = False
    usual_decay: ClassVar[float] = 1.0
    name: str
    error_feedback: bool = False
    decay: Annotated[float, Range(gt=0, le=1)] | None = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.factor <= 1.0:
            raise ValueError(f"codec.decay must be > 0 and <= 1, got {self.decay}; 1 forgets nothing")
        if self.factor != 1.0 and not self.error_feedback:
            raise ValueError(
                f"codec.decay must be 1 with codec.error_feedback=false, got {self.decay}; set "
                "codec.error_feedback=true"
            )

    @property
    def factor(self) -> float:
        """The factor on the residual at each update."""
        if self.decay is None:
            return self.usual_decay if self.error_feedback else 1.0
        return self.decay

    @abstractmethod
    def tensor_size(self, count: int) -> int:
        """Bytes of a tensor of `count` entries."""

    @abstractmethod
    def encode_tensor(self, values: Floats, noise: Noise, out: Bytes) -> None:
        """Fill `out`, (tensor_size(n),), with the encoding of `values`, (n,); n > 0."""

    @abstractmethod
    def decode_tensor(self, data: Bytes, count: int) -> Iterator[Floats]:
        """The `count` entries encoded in `data`, (tensor_size(count),), in arrays of BLOCK entries and a last one."""

    def size(self, shapes: Shapes) -> int:
        return sum(self.tensor_size(math.prod(shape)) for shape in shapes.values())

    def encode(self, tensors: State, kept: State, seed: int) -> tuple[bytes, State]:
        if not self.error_feedback:
            return self._bytes_of(tensors, seed), {}
        wanted = {name: self._joined(tensor, kept.get(name)) for name, tensor in tensors.items()}
        data = self._bytes_of(wanted, seed)
        residual = {name: tensor.view(-1) for name, tensor in wanted.items()}
        finite = True
        for name, start, values in self.blocks(data, algebra.shapes(wanted)):
            left = residual[name][start : start + values.numel()].sub_(values)
            finite = finite and bool(left.isfinite().all())
        return data, wanted if finite else kept

    def decode(self, data: bytes | memoryview, shapes: Shapes) -> State:
        return whole(shapes, self.blocks(data, shapes))

    def blocks(self, data: bytes | memoryview, shapes: Shapes) -> Iterator[TensorBlock]:
        expected = self.size(shapes)
        if len(data) != expected:
            raise ValueError(f"an update in {self.name} must have {expected} bytes for these shapes, got {len(data)}")
        received = np.frombuffer(data, np.uint8)
        at = 0
        for name, shape in shapes.items():
            count = math.prod(shape)
            end = at + self.tensor_size(count)
            for number, values in enumerate(self.decode_tensor(received[at:end], count)):
                yield TensorBlock(name, number * BLOCK, torch.from_numpy(values))
            at = end

    def _joined(self, tensor: Tensor, residual: Tensor | None) -> Tensor:
        """decay · residual + tensor, in memory of its own. Two roundings, as a fused one is not found everywhere."""
        update = tensor.detach().to("cpu", torch.float32)
        if residual is None:
            return update.clone(memory_format=torch.contiguous_format)
        return (residual if self.factor == 1.0 else residual * self.factor).add(update).contiguous()

    def _bytes_of(self, tensors: State, seed: int) -> bytes:
        message = np.empty(self.size(algebra.shapes(tensors)), np.uint8)
        at = 0
        for name, tensor in tensors.items():
            values = tensor.detach().to("cpu", torch.float32).contiguous().view(-1).numpy()
            end = at + self.tensor_size(values.size)
            if values.size:
                self.encode_tensor(values, Noise.of(seed, name), message[at:end])
            at = end
        return message.tobytes()


def spans(count: int) -> Iterator[tuple[int, int]]:
    """(start, length) of each stretch of BLOCK entries, and of the last, shorter one."""
    return ((start, min(BLOCK, count - start)) for start in range(0, count, BLOCK))
