"""What a codec is: a whole update to bytes and back."""

from typing import Literal, Protocol

from fednano.core.tensors import Shapes, State

Direction = Literal["up", "down"]
"""up: an update of a client's; down: the weights that the server sends."""


class Codec(Protocol):
    """A `codec` choice: how an update is encoded. New ones need one class and one YAML file, anywhere.

    Only updates are encoded by the choice of the configuration. Weights that go down, and optimizer states beside them,
    always travel as float32: what a lossy codec drops of weights, nothing makes up for. The codec is told the
    direction all the same, so that one can serve both.

    A codec is stateless: what a client has to remember, such as the residual of error feedback, it is given and gives
    back. That state belongs to the client. It is kept between rounds, saved with checkpoints, restored by `resume`,
    and gone when the client crashes. It may not be changed in place.

    `name` stands on every message, and a server refuses those of another codec. `lossless` says whether `decode`
    gives back exactly what `encode` was given; `round.alone_merge=adopt` submits weights and needs that.
    """

    @property
    def name(self) -> str: ...

    @property
    def lossless(self) -> bool: ...

    def encode(self, tensors: State, direction: Direction, kept: State) -> tuple[bytes, State]:
        """The bytes of `tensors` (float32, on the CPU), and what the client keeps in place of `kept`.

        `kept` is empty at a client's first update and after a crash.
        """

    def decode(self, data: bytes | memoryview, shapes: Shapes, direction: Direction) -> State:
        """The tensors behind `data`, with these names and shapes. Raises ValueError where the bytes do not fit."""

    def size(self, shapes: Shapes, direction: Direction) -> int:
        """The bytes that `encode` makes of tensors of these shapes: exactly, or at most; times on a virtual clock
        follow from it."""
