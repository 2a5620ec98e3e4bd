"""Transport of the round loop over a Flower grid."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from fednano.codec.base import Codec
from fednano.codec.pair import CodecPair
from fednano.core.tensors import Shapes, State, shapes
from fednano.federation.transport import Parcel, Reply
from fednano.flower import records
from fednano.flower.packed import pack, payload_bytes
from fednano.strategy.streaming import Fragments
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
        fragments: into how many the model is split, for tasks that bring some of them only.
    """

    def __init__(
        self,
        grid: Grid,
        codecs: CodecPair,
        size: Callable[[RecordDict], int] | None = None,
        trains: bool = True,
        fragments: int = 1,
    ) -> None:
        self._grid = grid
        self._codecs = codecs
        self._size = size or payload_bytes
        self._trains = trains
        self._notifying = grid if isinstance(grid, Notifying) else None
        self._fragments = fragments
        self._weights: State = {}
        self._version = 0
        self._packed: dict[tuple[int, ...] | None, ArrayRecord] = {}  # by the fragments; None: the whole model

    def publish(self, weights: State, version: int) -> None:
        self._weights, self._version = weights, version
        self._packed.clear()

    def pack(self, task: Task) -> Parcel:
        sent = task.stream.sent if task.stream else None
        content = records.pack_task(task, self._of(sent)) if self._trains else records.Unpacked(task)
        return Parcel(content, self._size(content))

    def _of(self, sent: tuple[int, ...] | None) -> ArrayRecord:
        """The published weights of these fragments, encoded; once for all tasks that bring them."""
        if sent not in self._packed:
            self._packed[sent] = self._encoded(self._weights if sent is None else self._part(sent))
        return self._packed[sent]

    def _part(self, sent: tuple[int, ...]) -> State:
        split = Fragments.split(shapes(self._weights), self._fragments)
        wanted = {name for index in sent for name in split.names[index]}
        return {name: tensor for name, tensor in self._weights.items() if name in wanted}

    def _encoded(self, weights: State) -> ArrayRecord:
        download = self._codecs.download
        packed, kept = pack(weights, download, {}, self._codecs.download_seed(self._version))
        if kept:
            raise ValueError(
                f"codec@download={download.name} must keep nothing between messages, got a residual; use another codec"
            )
        return packed

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
