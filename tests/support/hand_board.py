"""A board that a test plays all parts of."""

from fednano.coordination.memory import MemoryBoard
from fednano.coordination.store import Beat, StepTold


class HandBoard(MemoryBoard):
    """A live board whose beats and steps a test puts there."""

    def __init__(self) -> None:
        super().__init__()
        self.beats: dict[str, Beat] = {}
        self.told: list[StepTold] = []

    def present(self) -> dict[str, Beat]:
        return dict(self.beats)

    def steps(self) -> list[StepTold]:
        told, self.told = self.told, []
        return told

    def acknowledged(self, lease: int) -> bool:
        return False

    def stopping(self) -> frozenset[str]:
        return frozenset()

    def beat(self, beat: Beat) -> None:
        self.beats[beat.name] = beat
