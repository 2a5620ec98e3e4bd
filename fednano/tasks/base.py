"""The interface of the `tasks` choices of `fednano.evaluate`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fednano.tasks.items import EvaluationTask, LeftOut

Documents = Callable[[], Sequence[str]]
"""Reads the held-out documents; only some choices need them."""


class TaskSource(Protocol):
    """A `tasks` choice. A new one needs a class and a YAML file, anywhere."""

    def tasks(self, documents: Documents, seed: int) -> Sequence[EvaluationTask | LeftOut]:
        """The tasks, in the order of measurement, and those that the documents do not suffice for.

        Raises ValueError for tasks that cannot be read.
        """


@dataclass(frozen=True)
class NoTasks:
    """No tasks: only bits per byte."""

    def tasks(self, documents: Documents, seed: int) -> list[EvaluationTask]:
        return []
