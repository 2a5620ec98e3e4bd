"""What the round loop needs of whatever carries its messages: tasks out, replies back."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from fednano.core.tensors import Shapes, State
from fednano.training.worker import Result, Task


@dataclass(frozen=True)
class MessageBytes:
    """Bytes of tensors in a message, as they are known before any is sent: `down` to a client, `up` from it."""

    down: int
    up: int


@dataclass(frozen=True)
class Parcel:
    """A task as it travels: whatever its transport makes of it, and the bytes of its tensors."""

    content: Any
    size: int


class Reply(Protocol):
    """A client's answer. Nothing in it is trusted; `size` is the bytes of its tensors."""

    @property
    def failed(self) -> bool:
        """Whether an error came in place of an answer."""

    @property
    def size(self) -> int: ...

    def result(self) -> Result:
        """The figures. Raises KeyError or ValueError where they are malformed."""

    def tensors(self, expected: Shapes) -> tuple[State, State]:
        """The update and the inner optimizer's state; both empty without training.

        Raises KeyError or ValueError where the update cannot be decoded or has other names and shapes than `expected`.
        """


class Transport(Protocol):
    """Carries tasks to clients and replies back."""

    def publish(self, weights: State) -> None:
        """The weights that the tasks packed from now on start from; packed once for all of them."""

    def pack(self, task: Task) -> Parcel:
        """A task with the published weights."""

    def send(self, parcel: Parcel, node_id: int, group: str) -> str:
        """Send a parcel to a node; the id that its reply is asked for by."""

    def arrived(self) -> Iterable[str] | None:
        """The ids whose replies have arrived and were not pulled; None where nobody can tell."""

    def pull(self, message_id: str) -> list[Reply]:
        """The replies to a message that have arrived: none, one, or copies of it."""
