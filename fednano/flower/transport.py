"""Transport of the round loop over a Flower grid."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from fednano.codec.base import Codec
from fednano.codec.pair import CodecPair
from fednano.core.tensors import Shapes, State
from fednano.federation.transport import Parcel, Reply
from fednano.flower import records
from fednano.flower.packed import pack, payload_bytes
from fednano.training.worker import Result, Task


@runtime_checkable
class Notifying(Protocol):
    """A grid that knows which replies have arrived, so that they need not be requested one by one."""

    def arrived(self) -> Iterable[str]:
        """The ids of messages whose replies have arrived and were not pulled."""


@dataclass(frozen=True)
class FlowerReply:
    """A Flower message as the round loop reads it."""

    message: Message
    codec: Codec
    size: int

    @property
    def failed(self) -> bool:
        return self.message.has_error()

    @property
    def failure(self) -> str:
        return str(self.message.error.reason) if self.failed else ""

    def result(self, most_left: int) -> Result:
        return records.unpack_result(self.message.content, most_left)

    def tensors(self, expected: Shapes, inner: Shapes) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        return records.unpack_update(self.message.content, self.codec, expected, inner)


class FlowerTransport:
    """Implements `Transport`.

    Args:
        grid: Flower's grid, or one of ours.
        codecs: encode updates, and weights on their way to clients.
        size: bytes of a message's tensors; None: measured.
        trains: whether tensors travel; otherwise tasks are passed on within this process without conversion.
    """

    def __init__(
        self, grid: Grid, codecs: CodecPair, size: Callable[[RecordDict], int] | None = None, trains: bool = True
    ) -> None:
        self._grid = grid
        self._codecs = codecs
        self._size = size or payload_bytes
        self._trains = trains
        self._notifying = grid if isinstance(grid, Notifying) else None
        self._weights = ArrayRecord()

    def publish(self, weights: State, version: int) -> None:
        download = self._codecs.download
        self._weights, kept = pack(weights, download, {}, self._codecs.download_seed(version))
        if kept:
            raise ValueError(
                f"codec@download={download.name} must keep nothing between messages, got a residual; use another codec"
            )

    def pack(self, task: Task) -> Parcel:
        content = records.pack_task(task, self._weights) if self._trains else records.Unpacked(task)
        return Parcel(content, self._size(content))

    def send(self, parcel: Parcel, node_id: int, group: str) -> str:
        message = self._grid.create_message(parcel.content, "train", node_id, group)
        (message_id,) = self._grid.push_messages([message])
        return message_id

    def arrived(self) -> Iterable[str] | None:
        return self._notifying.arrived() if self._notifying else None

    def pull(self, message_id: str) -> list[Reply]:
        pulled = self._grid.pull_messages([message_id])
        return [FlowerReply(reply, self._codecs.update, self._bytes(reply)) for reply in pulled]

    def _bytes(self, reply: Message) -> int:
        return 0 if reply.has_error() else self._size(reply.content)
