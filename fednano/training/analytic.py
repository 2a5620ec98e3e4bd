"""The protocol without tensors: steps take their time and nothing else. For planning."""

from collections.abc import Iterable

from fednano.clock import Clock
from fednano.data.loader import Batch, LeaseLoader
from fednano.tensors import State
from fednano.training.local import MayStep, OnStep, StepPlan, StepsDone


class AnalyticTrainer:
    """Implements `Trainer`. The cursor assumes that all rows of the lease are equally long."""

    def __init__(self, tokens_per_step: int) -> None:
        self._tokens_per_step = tokens_per_step

    def forget(self, client: str) -> None:
        pass

    def run(
        self,
        client: str,
        weights: State,
        batches: Iterable[Batch],
        plan: StepPlan,
        clock: Clock,
        may_step: MayStep,
        on_step: OnStep,
    ) -> tuple[StepsDone, State]:
        assert isinstance(batches, LeaseLoader)
        steps = 0
        drained = False
        while steps < plan.steps:
            step_s = plan.seconds(clock.now())
            if not may_step(step_s):
                drained = True
                break
            clock.charge(step_s)
            steps += 1
            on_step(steps, 0.0)
        cursor = batches.position(steps / plan.steps) if steps else None
        return StepsDone(steps, steps * self._tokens_per_step, 0.0, cursor, drained, 0.0), weights
