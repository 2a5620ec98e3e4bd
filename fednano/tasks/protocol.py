"""Protocols of evaluation: which items of a task are scored, after which examples, and how much of a text is read."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

from fednano.core.randomness import generator
from fednano.core.ranges import Range
from fednano.tasks.items import EvaluationTask

SHUFFLE_SEED = 1337  # nanochat, scripts/base_eval.py: for the items of each task
EXAMPLES_SEED = 1234  # nanochat, nanochat/core_eval.py: plus the item's position after the shuffle
ROTARY_FACTOR = 10  # nanochat, nanochat/gpt.py: tokens that a model reads ÷ those of its rows in training


class EvaluationProtocol(Protocol):
    """A `protocol` choice. A new one needs a class and a YAML file, anywhere."""

    name: ClassVar[str]
    least: ClassVar[int]
    """Tokens of a text that count at least. With 0, a text may have none: its loss is NaN."""

    def measures(self, task: EvaluationTask) -> bool:
        """Whether the task is scored at all."""

    def chosen(self, task: EvaluationTask, most: int | None, seed: int) -> list[int]:
        """Indices of the items that are scored, at most `most`, in their order. Raises ValueError for too few."""

    def examples(self, task: EvaluationTask, chosen: Sequence[int], position: int, seed: int) -> list[int]:
        """Indices of the examples before the item `chosen[position]`, in their order."""

    def longest(self, sequence_len: int) -> int:
        """Tokens of a text that are kept, the last of which is only a target; earlier ones are cut off."""


@dataclass(frozen=True)
class FednanoProtocol:
    """Items in their order, or a sample of them; examples from all other items of the task, drawn by `seed`."""

    name: ClassVar[str] = "fednano"
    least: ClassVar[int] = 1

    def measures(self, task: EvaluationTask) -> bool:
        return True

    def chosen(self, task: EvaluationTask, most: int | None, seed: int) -> list[int]:
        if most is None or len(task.items) <= most:
            return list(range(len(task.items)))
        drawn = generator(seed, "items", task.label).choice(len(task.items), most, replace=False)
        found: list[int] = sorted(drawn.tolist())
        return found

    def examples(self, task: EvaluationTask, chosen: Sequence[int], position: int, seed: int) -> list[int]:
        index = chosen[position]
        others = generator(seed, "few-shot", task.label, index).choice(len(task.items) - 1, task.shots, replace=False)
        return [other + (other >= index) for other in others.tolist()]

    def longest(self, sequence_len: int) -> int:
        return sequence_len + 1


@dataclass(frozen=True)
class NanochatProtocol:
    """What nanochat's `base_eval` does (Karpathy, 2025), item by item.

    The items of each task are shuffled by one fixed seed and cut to the first `most`. The examples of an item are drawn
    from the other items that remain, by a seed that its position names. Of a task with several numbers of examples, the
    first counts. A choice that is the beginning of all others has no token of its own and a loss of NaN.

    Args:
        max_seq_len: tokens of a text that are kept; null: ten times those of a training row, as nanochat's models read.
    """

    name: ClassVar[str] = "nanochat"
    least: ClassVar[int] = 0
    max_seq_len: Annotated[int, Range(ge=2)] | None = None

    def measures(self, task: EvaluationTask) -> bool:
        return task.variant == 0

    def chosen(self, task: EvaluationTask, most: int | None, seed: int) -> list[int]:
        order = list(range(len(task.items)))
        random.Random(SHUFFLE_SEED).shuffle(order)
        kept = order[:most]
        if len(kept) <= task.shots:
            raise ValueError(
                f"max_items must be > {task.shots} with protocol=nanochat, got {most}: task {task.label} draws "
                f"{task.shots} examples from the items that it leaves; raise it, or use max_items=null"
            )
        return kept

    def examples(self, task: EvaluationTask, chosen: Sequence[int], position: int, seed: int) -> list[int]:
        others = [other for other in range(len(chosen)) if other != position]
        drawn = random.Random(EXAMPLES_SEED + position).sample(others, task.shots)
        return [chosen[other] for other in drawn]

    def longest(self, sequence_len: int) -> int:
        most = ROTARY_FACTOR * sequence_len
        if self.max_seq_len is None:
            return most
        if self.max_seq_len > most:
            raise ValueError(
                f"protocol.max_seq_len must be <= {most}, {ROTARY_FACTOR} times the model's rows, got "
                f"{self.max_seq_len}; use fewer"
            )
        return self.max_seq_len
