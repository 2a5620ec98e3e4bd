"""The transport interface of the round loop: tasks out, replies back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from fednano.core.tensors import Shapes, State
from fednano.training.worker import Result, Task


@dataclass(frozen=True)
class MessageBytes:
    """Bytes of the tensors in a message, known before any is sent: at most `down` to a client and `up` from it.

    `fragments` are the (down, up) bytes of each fragment, if a message holds only some of them.
    """

    down: int
    up: int
    fragments: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Parcel:
    """A packed task: `content` in the transport's own form, and `size`, the bytes of its tensors."""

    content: Any
    size: int


class Reply(Protocol):
    """A client's reply, untrusted; `size` is the bytes of its tensors."""

    @property
    def failed(self) -> bool:
        """Whether the client replied with an error."""

    @property
    def failure(self) -> str:
        """What the client says of its error; empty without one."""

    @property
    def size(self) -> int: ...

    def result(self, most_left: int) -> Result:
        """The result record. Raises ValueError if it is malformed, or leaves more than `most_left` spans untrained."""

    def tensors(self, expected: Shapes, inner: Shapes) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """The update and the inner optimizer's state; both empty without training, and perhaps decoded only when used.

        Raises ValueError, now or while decoding, if one cannot be decoded or has other names and shapes than `expected`
        or `inner`; nothing larger than these is allocated.
        """


class Transport(Protocol):
    """Carries tasks to clients and replies back."""

    def publish(self, weights: State, version: int) -> None:
        """Set the weights that later tasks start from, and their version; they are packed once for all tasks."""

    def pack(self, task: Task) -> Parcel:
        """Pack a task with the published weights."""

    def send(self, parcel: Parcel, node_id: int, group: str) -> str:
        """Send a parcel to a node; returns the message id to pull its reply by."""

    def arrived(self) -> Iterable[str] | None:
        """The ids of replies that have arrived and were not pulled; None if the transport cannot tell."""

    def pull(self, message_id: str) -> list[Reply]:
        """The replies to a message so far: none, one, or one and its duplicates."""
