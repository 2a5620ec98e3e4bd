"""What a `tasks` choice of `fednano.evaluate` is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fednano.tasks.items import Task

Documents = Callable[[], Sequence[str]]
"""Reads the held-out documents, which not every choice needs."""


class TaskSource(Protocol):
    """A `tasks` choice. New ones need one class and one YAML file, anywhere."""

    def tasks(self, documents: Documents, seed: int) -> list[Task]:
        """The tasks, in the order in which they are measured. Raises ValueError where there are none to be had."""


@dataclass(frozen=True)
class NoTasks:
    """Bits per byte alone."""

    def tasks(self, documents: Documents, seed: int) -> list[Task]:
        return []
