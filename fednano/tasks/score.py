"""Scoring of items: the text that a model finds most probable, or whether it writes the text itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

import torch
from torch import Tensor

from fednano.tasks.items import EvaluationTask, Item, ItemTexts, LanguageModelling, Schema
from fednano.tasks.protocol import EvaluationProtocol

IdList = list[int]
Encode = Callable[[str], IdList]
"""A text → BOS and its ids."""


class Logits(Protocol):
    """The logits of a model."""

    def __call__(self, tokens: Tensor, *, first: int) -> Tensor:
        """(B, T) int64 → (B, T − first, V) float32, for the positions from `first` on."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A model and its tokenizer.

    Args:
        logits: of the model.
        encode: of the tokenizer.
        longest: tokens of a text that are kept, the last of which is only a target; the model reads one less.
        least: tokens of a text that count at least. With 0, a text may have none: its loss is NaN.
        device: where the model is.
    """

    logits: Logits
    encode: Encode
    longest: int
    least: int
    device: torch.device

    def right(self, item: Item, texts: ItemTexts) -> tuple[bool, bool]:
        """(whether the model gets the item right, whether the beginning of a text had to be cut off)."""
        rows = [self.encode(text) for text in texts.complete]
        if isinstance(item, LanguageModelling):
            assert texts.stem is not None
            written = min(common_prefix([rows[0], self.encode(texts.stem)]), len(rows[0]) - 1)
            spans = [(written, len(rows[0]))]
        elif isinstance(item, Schema):
            spans = suffix_spans(rows, self.least)
        else:
            spans = prefix_spans(rows, self.least)
        losses, greedy, cut = self._judge(rows, spans)
        if isinstance(item, LanguageModelling):
            return greedy[0], cut
        return chosen(losses) == texts.gold, cut

    def _judge(self, rows: list[IdList], spans: list[tuple[int, int]]) -> tuple[list[float], list[bool], bool]:
        """(mean nats per row, whether each token is the most probable, per row, whether any row was cut).

        Only the tokens in a row's span count.
        """
        cuts = [max(0, len(row) - self.longest) for row in rows]
        rows = [row[cut:] for row, cut in zip(rows, cuts, strict=True)]
        spans = [(max(1, start - cut), stop - cut) for (start, stop), cut in zip(spans, cuts, strict=True)]
        first = min(start for start, _ in spans) - 1
        longest = max(map(len, rows))
        # Attention is causal: no position sees the padding after it.
        tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=self.device)
        logits = self.logits(tokens[:, :-1], first=first).float().cpu()
        losses, greedy = [], []
        for row, (start, stop), found in zip(rows, spans, logits, strict=True):
            targets = torch.tensor(row[start:stop], dtype=torch.long)  # there may be none
            part = found[start - 1 - first : stop - 1 - first]
            losses.append(float(torch.nn.functional.cross_entropy(part, targets)))
            greedy.append(bool((part.argmax(-1) == targets).all()))
        return losses, greedy, any(cuts)


def common_prefix(rows: Sequence[IdList]) -> int:
    """Number of tokens that all rows share at the beginning."""
    same = takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False))
    return sum(1 for _ in same)


def prefix_spans(rows: Sequence[IdList], least: int = 1) -> list[tuple[int, int]]:
    """(start, stop) of each row's part after the common beginning, at least `least` tokens."""
    start = min(common_prefix(rows), min(map(len, rows)) - least)
    return [(start, len(row)) for row in rows]


def suffix_spans(rows: Sequence[IdList], least: int = 1) -> list[tuple[int, int]]:
    """(start, stop) of the common end in each row, at least `least` tokens."""
    shared = max(least, common_prefix([row[::-1] for row in rows]))
    return [(len(row) - shared, len(row)) for row in rows]


def chosen(losses: Sequence[float]) -> int:
    """The index of the least loss, the first of equal ones. A NaN is chosen only if it comes first: nothing is less."""
    least = 0
    for index, loss in enumerate(losses):
        if loss < losses[least]:
            least = index
    return least


@dataclass(frozen=True)
class Scores:
    """Of each item of a task, in the order of scoring: whether it is right, and whether its text was cut."""

    right: Sequence[bool]
    cut: Sequence[bool]

    @property
    def accuracy(self) -> float:
        return sum(self.right) / len(self.right)


def scores(
    judge: Judge,
    task: EvaluationTask,
    protocol: EvaluationProtocol,
    most: int | None,
    seed: int,
    advance: Callable[[int], None],
) -> Scores:
    """The scores of at most `most` items of a task. Calls `advance(1)` after each item."""
    results = []
    order = protocol.chosen(task, most, seed)
    with torch.inference_mode():
        for position, index in enumerate(order):
            examples = protocol.examples(task, order, position, seed)
            results.append(judge.right(task.items[index], task.texts(index, examples)))
            advance(1)
    right, cut = zip(*results, strict=True)
    return Scores(right, cut)
