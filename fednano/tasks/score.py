"""Scoring of items: the text that a model finds most probable, or whether it writes the text itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

import torch
from torch import Tensor

from fednano.tasks.items import EvaluationTask, LanguageModelling, Schema

IdList = list[int]
Encode = Callable[[str], IdList]
"""A text → BOS and its ids."""


class Logits(Protocol):
    """The logits of a model."""

    def __call__(self, tokens: Tensor, *, first: int) -> Tensor:
        """(B, T) int64 → (B, T − first, V) float32, for the positions from `first` on."""


@dataclass(frozen=True)
class Judge:
    """A model and its tokenizer.

    Args:
        logits: of the model, which reads up to `sequence_len` tokens.
        encode: of the tokenizer.
        sequence_len: T.
        device: where the model is.
    """

    logits: Logits
    encode: Encode
    sequence_len: int
    device: torch.device

    def right(self, task: EvaluationTask, index: int, seed: int) -> tuple[bool, bool]:
        """(whether the model gets the item right, whether the beginning of its text had to be cut off)."""
        texts = task.texts(index, seed)
        rows = [self.encode(text) for text in texts.complete]
        item = task.items[index]
        if isinstance(item, LanguageModelling):
            assert texts.stem is not None
            written = min(common_prefix([rows[0], self.encode(texts.stem)]), len(rows[0]) - 1)
            spans = [(written, len(rows[0]))]
        elif isinstance(item, Schema):
            spans = suffix_spans(rows)
        else:
            spans = prefix_spans(rows)
        losses, greedy, cut = self._judge(rows, spans)
        if isinstance(item, LanguageModelling):
            return greedy[0], cut
        return losses.index(min(losses)) == texts.gold, cut

    def _judge(self, rows: list[IdList], spans: list[tuple[int, int]]) -> tuple[list[float], list[bool], bool]:
        """(mean nats per row, whether each token is the most probable, per row, whether any row was cut).

        Only the tokens in a row's span count.
        """
        # The last token is only a target, so T + 1 tokens fit.
        cuts = [max(0, len(row) - self.sequence_len - 1) for row in rows]
        rows = [row[cut:] for row, cut in zip(rows, cuts, strict=True)]
        spans = [(max(1, start - cut), stop - cut) for (start, stop), cut in zip(spans, cuts, strict=True)]
        first = min(start for start, _ in spans) - 1
        longest = max(map(len, rows))
        # Attention is causal: no position sees the padding after it.
        tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=self.device)
        logits = self.logits(tokens[:, :-1], first=first).float().cpu()
        losses, greedy = [], []
        for row, (start, stop), found in zip(rows, spans, logits, strict=True):
            targets = torch.tensor(row[start:stop])
            part = found[start - 1 - first : stop - 1 - first]
            losses.append(float(torch.nn.functional.cross_entropy(part, targets)))
            greedy.append(bool((part.argmax(-1) == targets).all()))
        return losses, greedy, any(cuts)


def common_prefix(rows: Sequence[IdList]) -> int:
    """Number of tokens that all rows share at the beginning."""
    same = takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False))
    return sum(1 for _ in same)


def prefix_spans(rows: Sequence[IdList]) -> list[tuple[int, int]]:
    """(start, stop) of each row's part after the common beginning, at least one token."""
    start = min(common_prefix(rows), min(map(len, rows)) - 1)
    return [(start, len(row)) for row in rows]


def suffix_spans(rows: Sequence[IdList]) -> list[tuple[int, int]]:
    """(start, stop) of the common end in each row, at least one token."""
    shared = max(1, common_prefix([row[::-1] for row in rows]))
    return [(len(row) - shared, len(row)) for row in rows]


def accuracy(
    judge: Judge, task: EvaluationTask, most: int, seed: int, advance: Callable[[int], None]
) -> tuple[float, int, int]:
    """(share of right items, number of items, number of items cut at the beginning), over at most `most` items.

    Calls `advance(1)` after each item.
    """
    results = []
    with torch.inference_mode():
        for index in task.chosen(most, seed):
            results.append(judge.right(task, index, seed))
            advance(1)
    rights, cuts = (sum(column) for column in zip(*results, strict=True))
    return rights / len(results), len(results), cuts
