"""Warm-up of a trainer: steps on random data, so that its first real step is as fast as the others."""

from collections.abc import Iterator
from itertools import pairwise, repeat
from statistics import median

from fednano.core.clock import RealClock, wall
from fednano.core.randomness import generator
from fednano.data.loader import Batch
from fednano.runtime.beginning import untrained
from fednano.runtime.parts import Parts
from fednano.training.local import StepPlan, Trainer

STEPS = 5  # the first ones compile and allocate memory
TIMED = 3
_NOBODY = "warm-up"


def warm_up(trainer: Trainer, parts: Parts) -> float:
    """Take a few steps and forget them; returns the median seconds of the last `TIMED` steps."""
    stamps: list[float] = []
    plan = StepPlan(
        steps=STEPS,
        step_s=0.0,
        tokens_before=0,
        tokens_per_step=parts.tokens_per_step,
        horizon=STEPS * parts.tokens_per_step,
    )
    trainer.run(
        _NOBODY,
        untrained(parts),
        _batches(parts),
        plan,
        RealClock(),
        lambda step_s: True,
        lambda steps, loss: stamps.append(wall()),
    )
    trainer.forget(_NOBODY)
    timed = stamps[-TIMED - 1 :]
    return median(after - before for before, after in pairwise(timed))


def _batches(parts: Parts) -> Iterator[Batch]:
    B, T = parts.shape
    ids = generator(parts.settings.seed, "warm-up").integers(parts.gpt.vocab_size, size=(B, T + 1))
    return repeat(Batch(ids[:, :-1], ids[:, 1:], cursor=(0, 0)))
