"""The codec interface: a whole update to bytes and back."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from fednano.core.tensors import Shapes, State, TensorBlock


class Codec(Protocol):
    """A `codec` choice: how tensors are encoded. New ones need one class and one YAML file, anywhere.

    `codec` encodes the updates of clients, `codec@download` the weights that the server sends. Optimizer states travel
    as float32, since nothing would make up for what a lossy codec drops from them.

    A codec is stateless. State that a client has to keep, such as the residual of error feedback, is an argument and a
    result of `encode`. It belongs to the client: it is kept between rounds, saved with checkpoints, restored by
    `resume` and lost when the client crashes. It must not be changed in place.

    Every message carries `name`, and a message of another codec is refused. `lossless` says whether `decode` returns
    exactly what `encode` was given; `round.alone_merge=adopt` submits weights and needs that.
    """

    @property
    def name(self) -> str: ...

    @property
    def lossless(self) -> bool: ...

    def encode(self, tensors: State, kept: State, seed: int) -> tuple[bytes, State]:
        """The bytes of `tensors` (float32, on the CPU), and the state that the client keeps in place of `kept`.

        `kept` is empty at a client's first update and after a crash. All randomness comes from `seed`, which differs
        between clients and rounds.
        """

    def decode(self, data: bytes | memoryview, shapes: Shapes) -> State:
        """The tensors encoded in `data`, with these names and shapes. Raises ValueError if the bytes do not fit."""

    def size(self, shapes: Shapes) -> int:
        """The number of bytes, exact or an upper bound, that `encode` returns for these shapes.

        Transfer times on a virtual clock follow from it.
        """


@runtime_checkable
class Blockwise(Protocol):
    """A codec that can also decode block by block, so that a server never holds a client's tensors."""

    def blocks(self, data: bytes | memoryview, shapes: Shapes) -> Iterator[TensorBlock]:
        """The tensors encoded in `data`, in the order of `shapes`; each tensor's blocks in order and without gaps.

        Raises ValueError before the first block if the length of `data` does not fit the shapes, and later if its
        content makes no sense.
        """
