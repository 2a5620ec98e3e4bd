"""A client's work on one task: lease in, pseudo-gradient out. Knows nothing of how either travels."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from fednano import tensors
from fednano.clock import Clock
from fednano.data.ledger import Grant
from fednano.data.loader import LeaseLoader, Packing, RowNumbers, TextSource
from fednano.tensors import State
from fednano.training.local import MayStep, Speed, StepPlan, StepsDone, Trainer, full_speed

ROUNDING_S = 1e-6  # of sums of step times

Asked = Callable[[int, float], bool]
"""Given a lease and the time on the client's clock: does the server want it back by now?"""


def never(lease: int, now: float) -> bool:
    """The `Asked` of a client that nobody calls in."""
    return False


@dataclass(frozen=True)
class Task:
    """What the server asks of a client in one message.

    `peers` clients are assumed to train beside this one, for the schedule by global tokens; `horizon` is the number
    of tokens at which the schedule ends. `inner` is the clients' mean optimizer state, where they average theirs.
    Whatever `steps` says, the work is over after `seconds` on the client's clock. `token` is the lease's.
    The answer is the pseudo-gradient or, where `whole`, the weights themselves, which no difference rounds.
    """

    client: str
    round: int
    version: int
    lease: int
    grant: Grant
    steps: int
    tokens_total: int
    peers: int
    horizon: int
    inner: State = field(default_factory=dict)
    seconds: float = math.inf
    token: str = ""
    whole: bool = False


@dataclass(frozen=True)
class Result:
    """What the client answers, beside the pseudo-gradient or its weights.

    `busy_from` and `busy_until` are seconds on its clock. `token` shows that it was given the lease.
    """

    task_client: str
    round: int
    version: int
    lease: int
    done: StepsDone
    busy_from: float
    busy_until: float
    token: str = ""


class ClientWorker:
    """One client: its rows, its clock, and a trainer that it may share with others of the process.

    Args:
        client: its name.
        trainer: model and optimizer states.
        source: texts and tokenizer.
        pools: corpus rows of every pool.
        shape: (B, T).
        packing: how rows make batches.
        tokens_per_s: its speed, for clocks that need to be told.
        clock: its own clock.
        may_step: its own judgement whether another step fits before it must leave.
        on_step: told (client, round, steps done, steps planned, loss, tokens) after each step.
        speed: the share of `tokens_per_s` that it has at a time of its clock.
        asked: given a lease and the time, whether the server wants it back by now.
    """

    def __init__(
        self,
        client: str,
        trainer: Trainer,
        source: TextSource,
        pools: Sequence[RowNumbers],
        shape: tuple[int, int],
        packing: Packing,
        tokens_per_s: float,
        clock: Clock,
        may_step: MayStep,
        on_step: Callable[[str, int, int, int, float, int], None],
        speed: Speed = full_speed,
        asked: Asked = never,
    ) -> None:
        self.client = client
        self._trainer = trainer
        self._source = source
        self._pools = pools
        self._shape = shape
        self._packing = packing
        self._tokens_per_s = tokens_per_s
        self._clock = clock
        self._may_step = may_step
        self._on_step = on_step
        self._speed = speed
        self._asked = asked

    def work(self, task: Task, weights: State) -> tuple[Result, State]:
        """Train the task's lease from `weights`, for at most `task.steps` steps and `task.seconds`."""
        B, T = self._shape
        loader = LeaseLoader(self._source, self._pools[task.grant.pool], task.grant, B, T, self._packing)
        step_s, peers_tokens = B * T / self._tokens_per_s, B * T * task.peers
        begun = self._clock.now()
        # A request to hand in may be known before its time.
        quiet_until = begun if self._asked(task.lease, math.inf) else begun + task.seconds
        plan = StepPlan(
            task.steps,
            step_s,
            task.tokens_total,
            peers_tokens,
            task.horizon,
            task.inner,
            self._speed,
            quiet_until,
        )

        def on_step(steps: int, loss: float) -> None:
            self._on_step(task.client, task.round, steps, task.steps, loss, B * T)

        called = False

        def may_step(step_s: float) -> bool:
            nonlocal called
            now = self._clock.now()
            over = now + step_s > begun + task.seconds + ROUNDING_S
            # Not before its first step, or the transfer would have been for nothing.
            called = over or (now > begun and self._asked(task.lease, now))
            return not called and self._may_step(step_s)

        done, local = self._trainer.run(task.client, weights, loader, plan, self._clock, may_step, on_step)
        # Who was called in stays; who drained by its own judgement leaves.
        if called:
            done = replace(done, drained=False)
        result = Result(task.client, task.round, task.version, task.lease, done, begun, self._clock.now(), task.token)
        return result, local if task.whole else tensors.subtract(weights, local)

    def crashed(self) -> None:
        """The machine died: what it remembered is gone."""
        self._trainer.forget(self.client)
