"""A client's work on one task: a lease in, a pseudo-gradient out, independent of the transport."""

import math
from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from fednano.core import tensors
from fednano.core.clock import Clock, VirtualClock
from fednano.core.inner_step import InnerStep, OnStep
from fednano.core.tensors import State
from fednano.data.ledger import Grant
from fednano.data.loader import Packing, PartedLoader, RowNumbers, TextSource
from fednano.strategy.client_part import ClientPart, LocalRule
from fednano.strategy.streaming import Streaming
from fednano.training.client_memory import ClientMemory
from fednano.training.local import MayStep, SpeedAt, StepPlan, StepsDone, Trainer, full_speed
from fednano.training.overlap import DRAINED, NOTHING, Advance, HeadStart, Onward, joined
from fednano.training.streaming import OwnWeights, StreamTask

ROUNDING_S = 1e-6  # tolerance for sums of step times

Asked = Callable[[int, float], bool]
"""Whether the server has asked for the lease to be submitted by this time on the client's clock."""

MightStep = Callable[[float, float], bool]
"""Whether a step of this many seconds might have begun at a time that may have passed; (time, seconds)."""


def never(lease: int, now: float) -> bool:
    """The `Asked` of a client that is never asked to submit early."""
    return False


class Task(Struct, frozen=True, kw_only=True):
    """What the server asks of a client in one message.

    `peers` clients are assumed to train beside this one, for the schedule by global tokens; `horizon` is the number
    of tokens at which the schedule ends. `inner` is the clients' mean optimizer state, if they average theirs. The work
    ends after `seconds` on the client's clock, even with fewer than `steps` steps. `token` is the lease's. The client
    submits the pseudo-gradient or, if `whole`, the weights themselves, free of a difference's rounding. After that it
    may take overlapped steps on the lease `ahead`; a later task decides whether they are merged. With a `stream`, the
    task is of one fragment, and the client goes on from its own weights.
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
    inner: State = {}
    seconds: float = math.inf
    token: str = ""
    whole: bool = False
    ahead: Advance | None = None
    stream: StreamTask | None = None


class Result(Struct, frozen=True, kw_only=True):
    """What the client submits besides the pseudo-gradient or its weights.

    `busy_from` and `busy_until` are seconds on its clock. `ahead` is the (begin, end) of its overlapped steps before
    the task arrived, also in seconds; empty without any. `token` proves that it was granted the lease. `fragment` is
    the one submitted, if the task was of one.
    """

    task_client: str
    round: int
    version: int
    lease: int
    done: StepsDone
    busy_from: float
    busy_until: float
    token: str = ""
    ahead: tuple[float, ...] = ()
    fragment: int | None = None


class ClientWorker:
    """One client: its rows, its clock, and a trainer that it may share with other clients of the process.

    Args:
        client: its name.
        trainer: model and optimizer states.
        source: texts and tokenizer.
        pools: corpus rows of every pool.
        shape: (B, T).
        packing: how rows make batches.
        tokens_per_s: its speed, for clocks that need to be told.
        clock: its own clock.
        may_step: whether another step fits before the client must leave.
        on_step: called for each step.
        speed: maps a time on its clock to its fraction of `tokens_per_s`.
        asked: whether the server has asked for a lease to be submitted by a time.
        might_step: `may_step` for a time that has passed. It is for clocks on which overlapped steps are computed
            later, once their number is known; None if they are taken in real time.
        onward: the overlapped steps that it may take since its last submission.
        part: what the strategy does on a client.
        streaming: which fragments it submits, if the strategy has any.
    """

    def __init__(
        self,
        *,
        client: str,
        trainer: Trainer,
        source: TextSource,
        pools: Sequence[RowNumbers],
        shape: tuple[int, int],
        packing: Packing,
        tokens_per_s: float,
        clock: Clock,
        may_step: MayStep,
        on_step: OnStep,
        speed: SpeedAt = full_speed,
        asked: Asked = never,
        might_step: MightStep | None = None,
        onward: Onward | None = None,
        part: ClientPart | None = None,
        streaming: Streaming | None = None,
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
        self._might_step = might_step
        self._part = part
        self._streaming = streaming
        self.onward = onward

    @property
    def memory(self) -> ClientMemory:
        """The tensors that the clients of this process keep besides optimizer states."""
        return self._trainer.memory

    def work(self, task: Task, weights: State) -> tuple[Result, State]:
        """Train the task's lease from `weights`, for at most `task.steps` steps and `task.seconds`.

        Raises ValueError if the task continues from weights that the client does not have.
        """
        came = self._clock.now()
        own = OwnWeights.held(self.memory.of(task.client, "stream"), task.stream, weights) if task.stream else None
        head = self._head_start(task)
        begun, over_at = self._clock.now(), came + task.seconds
        # A request to submit may be known before its time.
        quiet_until = came if self._asked(task.lease, math.inf) else over_at
        called = False

        def may_step(step_s: float) -> bool:
            nonlocal called
            now = self._clock.now()
            over = now + step_s > over_at + ROUNDING_S
            # Never before the first step, or the transfer would have been in vain.
            called = over or (now > begun and self._asked(task.lease, now))
            return not called and self._may_step(step_s)

        def go(start: State, steps: int, behind: int, rule: LocalRule | None) -> tuple[StepsDone, State]:
            def after_step(taken: int, loss: float) -> None:
                head.loader.trained(behind + taken)
                self._tell(task, behind + taken, loss)

            plan = self._plan(task, max(0, steps), behind, task.inner, quiet_until, rule)
            return self._trainer.run(task.client, start, head.loader, plan, self._clock, may_step, after_step)

        ahead = head.done.steps
        early = NOTHING
        if own:
            early, own = self._taken_in(task, own, weights, head, go)
        start, behind = (own.local if own else head.onto(weights)), ahead + early.steps
        rule = self._rule(task, own.base if own else weights)
        done, local = (DRAINED, start) if early.drained else go(start, task.steps - behind, behind, rule)
        done = joined(early, done)
        # A client that was asked to submit stays; one that drained on its own leaves.
        if called:
            done = replace(done, drained=False)
        done, ended = head.joined(done), self._clock.now()
        result = Result(
            task_client=task.client,
            round=task.round,
            version=task.version,
            lease=task.lease,
            done=done,
            busy_from=begun,
            busy_until=ended,
            token=task.token,
            ahead=head.took,
            fragment=task.stream.due if task.stream else None,
        )
        if task.ahead and done.steps and not done.drained:
            self.onward = self._onward(task, task.ahead, local)
        if task.whole:
            return result, rule.to("cpu").weights(local, done.steps) if rule and done.steps else local
        return result, self._update(task, own, weights, local, done, rule)

    def _taken_in(
        self,
        task: Task,
        own: OwnWeights,
        weights: State,
        head: HeadStart,
        go: Callable[[State, int, int, LocalRule | None], tuple[StepsDone, State]],
    ) -> tuple[StepsDone, OwnWeights]:
        """Take the steps that are left of τ, then take in the global `weights` that came with the task."""
        assert task.stream and self._streaming
        if task.stream.anew:
            return NOTHING, own
        ahead, early, local = head.done.steps, NOTHING, head.reached or own.local
        if (delay := min(self._streaming.delay or 0, task.steps) - ahead) > 0:
            early, local = go(local, delay, ahead, None)
        return early, own.taken_in(local, weights, self._streaming.alpha)

    def _rule(self, task: Task, weights: State) -> LocalRule | None:
        if self._part is None:
            return None
        return self._part.begin(weights, self.memory.of(task.client, "strategy"), task.client, task.round)

    def _update(
        self, task: Task, own: OwnWeights | None, weights: State, local: State, done: StepsDone, rule: LocalRule | None
    ) -> State:
        """The pseudo-gradient, or what the strategy makes of it; of the fragment that is due, if there are any."""
        client = task.client
        if own and task.stream and self._streaming:
            delta = own.submitted(local, task.stream.due, self._streaming.fragments)
            self.memory.keep(client, "stream", own.to_keep(local, delta, task.stream))
        else:
            delta = tensors.subtract(weights, local)
        if rule and done.steps:
            delta = rule.to("cpu").update(delta, done.steps)
            self.memory.keep(client, "strategy", rule.kept)
        return delta

    def _tell(self, task: Task, step: int, loss: float) -> None:
        B, T = self._shape
        self._on_step(
            InnerStep(client=task.client, round=task.round, step=step, steps=task.steps, loss=loss, tokens=B * T)
        )

    def crashed(self) -> None:
        """Drop all state of the client, whose machine died."""
        self.onward = None
        self._trainer.forget(self.client)

    def _loader(self, grant: Grant) -> PartedLoader:
        return PartedLoader(self._source, self._pools[grant.pool], grant, *self._shape, self._packing)

    def _plan(
        self,
        task: Task,
        steps: int,
        behind: int,
        inner: State,
        quiet_until: float = math.inf,
        rule: LocalRule | None = None,
    ) -> StepPlan:
        """The plan of `steps` steps after each peer has taken `behind` steps since the task's token count."""
        step_tokens = self._shape[0] * self._shape[1]
        peers_tokens = step_tokens * task.peers
        step_s, before = step_tokens / self._tokens_per_s, task.tokens_total + behind * peers_tokens
        return StepPlan(
            steps=steps,
            step_s=step_s,
            tokens_before=before,
            tokens_per_step=peers_tokens,
            horizon=task.horizon,
            inner=inner,
            speed=self._speed,
            quiet_until=quiet_until,
            rule=rule,
        )

    def _onward(self, task: Task, ahead: Advance, local: State) -> Onward:
        """The overlapped steps after a task, whose own steps are assumed merged by then."""
        plan, loader = self._plan(task, ahead.steps, task.steps, {}), self._loader(ahead.grant)
        return Onward(
            client=task.client,
            round=task.round + 1,
            advance=ahead,
            weights=tensors.clone(local),
            loader=loader,
            plan=plan,
            begins=self._clock.now(),
            exact=task.stream is not None,
        )

    def _head_start(self, task: Task) -> HeadStart:
        """The overlapped steps done on a task's lease. Those on another lease are discarded."""
        onward, self.onward = self.onward, None
        anew = task.stream is not None and task.stream.anew
        if task.stream and task.stream.forgets:
            self._trainer.forget(self.client)
        if onward and onward.is_for(task.lease, task.token) and not anew:
            return onward.head or self._catch_up(onward, task)
        # What is still to be computed may be left out; the server says whether a client that begins anew forgets.
        if onward and (onward.head.done.steps if onward.head else not anew and self._lags(onward)):
            self._trainer.forget(self.client)
        return HeadStart(loader=self._loader(task.grant))

    def _lags(self, onward: Onward) -> bool:
        """Whether overlapped steps that the client has taken by its clock are still to be computed."""
        return self._might_step is not None and onward.begins < self._clock.now()

    def _catch_up(self, onward: Onward, task: Task) -> HeadStart:
        """Take the overlapped steps that began before now; one in progress is finished first."""
        came, clock, might_step = self._clock.now(), VirtualClock(onward.begins), self._might_step
        if might_step is None or not self._lags(onward):
            return HeadStart(loader=onward.loader)

        def may_step(step_s: float) -> bool:
            return clock.now() < came and might_step(clock.now(), step_s)

        def after_step(steps: int, loss: float) -> None:
            self._tell(task, steps, loss)

        head = onward.go(self._trainer, clock, may_step, after_step, came)
        self._clock.wait(clock.now())
        return head
