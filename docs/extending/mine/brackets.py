"""An evaluation task: closing brackets."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from fednano.tasks.items import MultipleChoice, Task

PAIRS = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Brackets:
    """Which of three brackets closes what is open.

    Args:
        depth: how many are open.
    """

    depth: int = 2

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"tasks.depth must be 1 or more, got {self.depth}; 2 gives nine items")

    def tasks(self, documents: Sequence[str], seed: int) -> list[Task]:
        closing = tuple(PAIRS.values())
        items = [
            MultipleChoice(" ".join(opened), closing, closing.index(PAIRS[opened[-1]]))
            for opened in product(PAIRS, repeat=self.depth)
        ]
        return [Task(label="brackets", items=items, shots=0, delimiter=" ", baseline=1 / len(closing))]
