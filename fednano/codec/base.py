"""The codec interface: a whole update to bytes and back."""

from typing import Literal, Protocol

from fednano.core.tensors import Shapes, State

Direction = Literal["up", "down"]
"""up: the update of a client; down: the weights that the server sends."""


class Codec(Protocol):
    """A `codec` choice: how an update is encoded. New ones need one class and one YAML file, anywhere.

    The configured codec encodes only updates. Weights that go down, and optimizer states with them, always travel as
    float32, since nothing would make up for what a lossy codec drops from weights. The direction is still an argument,
    so that one codec can serve both.

    A codec is stateless. State that a client has to keep, such as the residual of error feedback, is an argument and a
    result of `encode`. It belongs to the client: it is kept between rounds, saved with checkpoints, restored by
    `resume` and lost when the client crashes. It must not be changed in place.

    Every message carries `name`, and a server refuses messages of another codec. `lossless` says whether `decode`
    returns exactly what `encode` was given; `round.alone_merge=adopt` submits weights and needs that.
    """

    @property
    def name(self) -> str: ...

    @property
    def lossless(self) -> bool: ...

    def encode(self, tensors: State, direction: Direction, kept: State) -> tuple[bytes, State]:
        """The bytes of `tensors` (float32, on the CPU), and the state that the client keeps in place of `kept`.

        `kept` is empty at a client's first update and after a crash.
        """

    def decode(self, data: bytes | memoryview, shapes: Shapes, direction: Direction) -> State:
        """The tensors encoded in `data`, with these names and shapes. Raises ValueError if the bytes do not fit."""

    def size(self, shapes: Shapes, direction: Direction) -> int:
        """The number of bytes, exact or an upper bound, that `encode` returns for these shapes.

        Transfer times on a virtual clock follow from it.
        """
