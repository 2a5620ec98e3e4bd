"""Steps that a client takes while its update travels: it goes on from its local weights, on rows of the next round.

With θ_h as it was submitted, θ_a after the steps ahead and θ as the next round begins, the client trains on from
θ + (θ_a − θ_h). The next pseudo-gradient, θ − θ_local, then holds the steps ahead, once.
"""

import math
from dataclasses import dataclass, field, replace

from fednano.core import tensors
from fednano.core.clock import Clock
from fednano.core.tensors import State
from fednano.data.ledger import Grant
from fednano.data.loader import PartedLoader
from fednano.training.local import AfterStep, MayStep, StepPlan, StepsDone, Trainer

NOTHING = StepsDone(steps=0, tokens=0, loss=math.nan, cursor=None, drained=False, train_s=0.0)


@dataclass(frozen=True)
class Advance:
    """A lease for the next round, of which a client that has submitted trains at most `steps` steps ahead."""

    lease: int
    token: str
    grant: Grant
    steps: int


@dataclass(frozen=True)
class HeadStart:
    """What is done of a lease as its task comes.

    Args:
        loader: the lease's batches; it goes on with those that are not trained.
        done: the steps that were taken.
        took: from when until when, in seconds on the client's clock; empty where there were none.
        moved: θ_a − θ_h; empty where there were none.
    """

    loader: PartedLoader
    done: StepsDone = NOTHING
    took: tuple[float, ...] = ()
    moved: State = field(default_factory=dict)

    def onto(self, weights: State) -> State:
        """The weights to go on from: θ + (θ_a − θ_h)."""
        return {name: weights[name] + moved for name, moved in self.moved.items()} if self.moved else weights

    def joined(self, rest: StepsDone) -> StepsDone:
        """All that was done of the lease, given what was done of it since."""
        ahead = self.done
        if not ahead.steps:
            return rest
        steps = ahead.steps + rest.steps
        last = rest if rest.steps else ahead
        return replace(
            rest,
            steps=steps,
            tokens=ahead.tokens + rest.tokens,
            loss=(ahead.loss * ahead.steps + rest.loss * rest.steps) / steps if rest.steps else ahead.loss,
            cursor=last.cursor,
            left=last.left,
            train_s=ahead.train_s + rest.train_s,
            data_s=ahead.data_s + rest.data_s,
        )


@dataclass(kw_only=True)
class Onward:
    """The work that a client may go on with, once it has submitted.

    Args:
        client: its name.
        round: in which the work will be merged.
        advance: the lease.
        weights: θ_h, in memory of its own.
        loader: the lease's batches.
        plan: of the steps ahead.
        begins: when it submitted, in seconds on its clock.
        head: what it did, once it has.
    """

    client: str
    round: int
    advance: Advance
    weights: State
    loader: PartedLoader
    plan: StepPlan
    begins: float
    head: HeadStart | None = None

    def is_for(self, lease: int, token: str) -> bool:
        """Whether this is work on that lease."""
        return (self.advance.lease, self.advance.token) == (lease, token)

    def go(
        self, trainer: Trainer, clock: Clock, may_step: MayStep, after_step: AfterStep, quiet_until: float = math.inf
    ) -> HeadStart:
        """Take the steps ahead, as `Trainer.run` does: until all are taken, or `may_step` says no."""

        def told(steps: int, loss: float) -> None:
            self.loader.trained(steps)
            after_step(steps, loss)

        begun, plan = clock.now(), replace(self.plan, quiet_until=quiet_until)
        done, local = trainer.run(self.client, self.weights, self.loader, plan, clock, may_step, told)
        self.head = HeadStart(self.loader)
        if done.steps:
            moved = tensors.subtract(local, self.weights)
            self.head = HeadStart(self.loader, done, (begun, clock.now()), moved)
        return self.head
