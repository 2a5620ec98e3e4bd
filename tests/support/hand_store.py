"""A coordination store that a test plays all parts of."""

from fednano.coordination.memory import MemoryStore
from fednano.coordination.store import Heartbeat
from fednano.core.inner_step import InnerStep


class HandStore(MemoryStore):
    """A live coordination store whose heartbeats and steps a test puts there."""

    def __init__(self) -> None:
        super().__init__()
        self.heartbeats: dict[str, Heartbeat] = {}
        self.told: list[InnerStep] = []

    def present(self) -> dict[str, Heartbeat]:
        return dict(self.heartbeats)

    def steps(self) -> list[InnerStep]:
        told, self.told = self.told, []
        return told

    def acknowledged(self, lease: int) -> bool:
        return False

    def stopping(self) -> frozenset[str]:
        return frozenset()

    def heartbeat(self, heartbeat: Heartbeat) -> None:
        self.heartbeats[heartbeat.name] = heartbeat
