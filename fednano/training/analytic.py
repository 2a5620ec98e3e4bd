"""A trainer without tensors: its steps take time on the clock and compute nothing."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from fednano.core.clock import Clock
from fednano.core.tensors import State
from fednano.data.ledger import Position, Span
from fednano.data.loader import Batch, LeaseLoader
from fednano.training.client_memory import ClientMemory
from fednano.training.local import AfterStep, MayStep, StepPlan, StepsDone

CLOSE = 1e-3  # of a step, by which it has to fit to be certain


class AnalyticTrainer:
    """Implements `Trainer`: it reads no rows and measures no loss.

    Steps begin and end when those of `LocalTrainer` would, as long as no lease runs out of tokens. Cursors assume that
    all rows are equally long.

    Args:
        tokens_per_step: B·T.
        tokens_per_row: mean tokens of a row.
        sure_until: (client, time) → the time until which its steps keep their duration and nothing stops them.
    """

    train_s = data_s = 0.0

    def __init__(self, tokens_per_step: int, tokens_per_row: float, sure_until: Callable[[str, float], float]) -> None:
        self._tokens_per_step = tokens_per_step
        self._row_tokens = max(1, round(tokens_per_row))
        self._sure_until = sure_until
        self.memory = ClientMemory()  # stays empty

    def forget(self, client: str) -> None:
        pass

    def states(self) -> Mapping[str, State]:
        return {}

    def run(
        self,
        client: str,
        weights: State,
        batches: Iterable[Batch],
        plan: StepPlan,
        clock: Clock,
        may_step: MayStep,
        after_step: AfterStep,
    ) -> tuple[StepsDone, State]:
        """As `Trainer.run`, but `after_step` is called only for the last step."""
        assert isinstance(batches, LeaseLoader)
        behind = batches.behind
        steps = self._unquestioned(client, plan, clock)
        drained = False
        while steps < plan.steps:
            step_s = plan.seconds(clock.now())
            if not may_step(step_s):
                drained = True
                break
            clock.charge(step_s)
            steps += 1
        tokens = steps * self._tokens_per_step
        if steps:
            after_step(steps, math.nan)
        until = (behind + steps) * self._tokens_per_step
        cursor = position(batches.grant.spans, until, self._row_tokens) if steps else None
        return StepsDone(
            steps=steps, tokens=tokens, loss=math.nan, cursor=cursor, drained=drained, train_s=0.0
        ), weights

    def _unquestioned(self, client: str, plan: StepPlan, clock: Clock) -> int:
        """Take at once all steps that are certain to happen; returns their number."""
        begins = clock.now()
        step_s = plan.seconds(begins)
        fit = (min(self._sure_until(client, begins), plan.quiet_until) - begins) / step_s
        # Times are rounded, so a step that seems to just fit is not certain.
        steps = plan.steps if fit > plan.steps + CLOSE else max(0, math.floor(fit - CLOSE))
        clock.charge(step_s, steps)
        return steps


def position(spans: Sequence[Span], tokens: int, row_tokens: int) -> Position:
    """The position after `tokens` tokens of `spans` if every row has `row_tokens`; at most the end of the spans."""
    for span in spans:
        held = span.rows * row_tokens - span.token
        if tokens < held:
            rows, token = divmod(span.token + tokens, row_tokens)
            return span.row + rows, token
        tokens -= held
    return spans[-1].stop, 0
