"""Delayed Nesterov: the outer step of asynchronous DiLoCo, which leaves momentum out of all but every N-th step."""

from dataclasses import dataclass
from typing import Annotated

import torch

from fednano.core.ranges import Range
from fednano.core.tensors import State
from fednano.strategy.outer.base import blank, check_decay, check_lr, in_blocks

MOMENTUM, BUFFER, COUNT = "m.", "b.", "count"


@dataclass(frozen=True, kw_only=True)
class DelayedNesterov:
    """At each merge θ ← θ − ηΔ/N and B ← B + Δ; at every N-th also m ← βm + B/N, θ ← θ − ηβm, B ← 0.

    Source: Liu et al. 2024 (2401.09135), algorithm 3. With N = 1 it is Nesterov's step. The state is m, B and the
    number of merges since B was 0.

    Args:
        lr: η, the outer learning rate.
        momentum: β, the share of m that each of its steps keeps.
        every: N, merges between two steps of the momentum; the number of clients, if they are merged one at a time.
    """

    lr: float = 0.7
    momentum: float = 0.9
    every: Annotated[int, Range(ge=1)] = 1

    def __post_init__(self) -> None:
        check_lr(self.lr)
        check_decay("momentum", self.momentum)
        if self.every < 1:
            raise ValueError(f"strategy.outer.every must be >= 1, got {self.every}; use the number of clients")

    def step(self, weights: State, outer: State, delta: State, scale: float = 1.0) -> tuple[State, State]:
        lr, n = scale * self.lr, self.every
        count = int(outer[COUNT]) + 1 if outer else 1
        stepped, momenta, buffer = blank(weights), blank(delta), blank(delta)
        for name, weight in weights.items():
            last = outer.get(MOMENTUM + name, torch.zeros_like(delta[name]))
            held = outer.get(BUFFER + name, torch.zeros_like(delta[name]))
            views = in_blocks(stepped[name], momenta[name], buffer[name], weight, last, held, delta[name])
            for new, m, b, old, before, kept, change in views:
                torch.add(kept, change, out=b)
                if count < n:
                    m.copy_(before)
                    torch.sub(old, change * (lr / n), out=new)
                    continue
                torch.mul(before, self.momentum, out=m).add_(b / n)
                torch.sub(old, (m * self.momentum).add_(change / n).mul_(lr), out=new)
                b.zero_()
        state = {MOMENTUM + name: m for name, m in momenta.items()} | {BUFFER + name: b for name, b in buffer.items()}
        return stepped, (state | {COUNT: torch.tensor(count % n)} if weights else {})
