"""Overlapped steps: a client keeps training on the next round's rows while its update travels.

Let θ_h be the weights at submission, θ_a those after the overlapped steps, and θ those at the start of the next round.
The client then continues from θ + (θ_a − θ_h). The next pseudo-gradient, θ − θ_local, holds the overlapped steps once.
"""

import math
from dataclasses import dataclass

from msgspec import Struct
from msgspec.structs import replace

from fednano.core import tensors
from fednano.core.clock import Clock
from fednano.core.tensors import State
from fednano.data.ledger import Grant
from fednano.data.loader import PartedLoader
from fednano.training.local import AfterStep, MayStep, StepPlan, StepsDone, Trainer

NOTHING = StepsDone(steps=0, tokens=0, loss=math.nan, cursor=None, drained=False, train_s=0.0)
DRAINED = replace(NOTHING, drained=True)


class Advance(Struct, frozen=True):
    """A lease for the next round, on which a client may take at most `steps` overlapped steps."""

    lease: int
    token: str
    grant: Grant
    steps: int


class HeadStart(Struct, frozen=True, kw_only=True):
    """The overlapped steps done on a lease when its task arrives.

    Args:
        loader: the lease's batches; it continues with the untrained ones.
        done: the steps that were taken.
        took: (begin, end) in seconds on the client's clock; empty without steps.
        moved: θ_a − θ_h; empty without steps.
        reached: θ_a itself, for a client that keeps its own weights; empty without steps.
    """

    loader: PartedLoader
    done: StepsDone = NOTHING
    took: tuple[float, ...] = ()
    moved: State = {}
    reached: State = {}

    def onto(self, weights: State) -> State:
        """The weights to continue from: θ + (θ_a − θ_h)."""
        return {name: weights[name] + moved for name, moved in self.moved.items()} if self.moved else weights

    def joined(self, rest: StepsDone) -> StepsDone:
        """All that was done on the lease: the overlapped steps and `rest`, the steps since."""
        return joined(self.done, rest)


def joined(first: StepsDone, rest: StepsDone) -> StepsDone:
    """The steps of one lease that were taken in two goes."""
    if not first.steps:
        return rest
    steps = first.steps + rest.steps
    last = rest if rest.steps else first
    return replace(
        rest,
        steps=steps,
        tokens=first.tokens + rest.tokens,
        loss=(first.loss * first.steps + rest.loss * rest.steps) / steps if rest.steps else first.loss,
        cursor=last.cursor,
        left=last.left,
        train_s=first.train_s + rest.train_s,
        data_s=first.data_s + rest.data_s,
    )


@dataclass(kw_only=True)
class Onward:
    """The overlapped steps that a client may take after submitting.

    Args:
        client: its name.
        round: the round in which the work will be merged.
        advance: the lease.
        weights: θ_h, a copy.
        loader: the lease's batches.
        plan: the plan of the overlapped steps.
        begins: when it submitted, in seconds on its clock.
        exact: whether it goes on from the very weights that the steps lead to.
        head: what was done; None until then.
    """

    client: str
    round: int
    advance: Advance
    weights: State
    loader: PartedLoader
    plan: StepPlan
    begins: float
    exact: bool = False
    head: HeadStart | None = None

    def is_for(self, lease: int, token: str) -> bool:
        """Whether this work is on that lease, with its token."""
        return (self.advance.lease, self.advance.token) == (lease, token)

    def go(
        self, trainer: Trainer, clock: Clock, may_step: MayStep, after_step: AfterStep, quiet_until: float = math.inf
    ) -> HeadStart:
        """Take the overlapped steps, as `Trainer.run` does, until all are done or `may_step` returns False."""

        def told(steps: int, loss: float) -> None:
            self.loader.trained(steps)
            after_step(steps, loss)

        begun, plan = clock.now(), replace(self.plan, quiet_until=quiet_until)
        done, local = trainer.run(self.client, self.weights, self.loader, plan, clock, may_step, told)
        self.head = HeadStart(loader=self.loader)
        if done.steps:
            moved = {} if self.exact else tensors.subtract(local, self.weights)
            reached = tensors.clone(local) if self.exact else {}
            self.head = HeadStart(
                loader=self.loader, done=done, took=(begun, clock.now()), moved=moved, reached=reached
            )
        return self.head
