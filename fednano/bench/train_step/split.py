"""The time of each part of an eager step, from marks at the beginning and end of modules."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from torch import nn

from fednano.bench.train_step.contenders import StepContender
from fednano.core.clock import wall

PARTS = ("embedding", "attention", "mlp", "head and loss", "between", "optimizer")


class StepSplit:
    """Marks of one step. Each mark names the part that ends there.

    "between" is the work of blocks outside attention and MLP: norms, residual sums, value embeddings backward.
    """

    def __init__(self) -> None:
        self._marks: list[tuple[str, float]] = []

    def mark(self, ended: str) -> None:
        self._marks.append((ended, wall()))

    def seconds(self) -> dict[str, float]:
        """Seconds by part; they add up to the time from the first mark to the last."""
        found = defaultdict[str, float](float)
        for (_, begin), (part, end) in pairwise(self._marks):
            found[part] += end - begin
        return {part: found[part] for part in PARTS}

    @contextmanager
    def watching(self, contender: StepContender) -> Iterator[None]:
        """Make the modules set marks inside the block."""
        first, last = contender.blocks[0], contender.blocks[-1]
        handles: list[Any] = []
        for block in contender.blocks:
            for part, module in (("attention", block.attn), ("mlp", block.mlp)):
                assert isinstance(module, nn.Module)
                # Forward, the first block follows the embedding; backward, the last one follows head and loss.
                before = "embedding" if block is first and part == "attention" else "between"
                after = "head and loss" if block is last and part == "mlp" else "between"
                handles += [
                    module.register_forward_pre_hook(lambda *_, part=before: self.mark(part)),
                    module.register_forward_hook(lambda *_, part=part: self.mark(part)),
                    module.register_full_backward_pre_hook(lambda *_, part=after: self.mark(part)),
                    module.register_full_backward_hook(lambda *_, part=part: self.mark(part)),
                ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
