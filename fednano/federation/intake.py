"""The intake of updates: each reply is checked against its task, then accumulated in its round or refused."""

import hmac
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from msgspec import Struct, structs
from torch import Tensor

from fednano.coordination.store import Lease
from fednano.core import tensors
from fednano.core.clock import Clock, wall
from fednano.core.events import UpdateFolded, as_cause
from fednano.core.tensors import State
from fednano.data.ledger import Ledger, Stretch, least_tokens, records_of
from fednano.data.tally import Tally
from fednano.federation.fragments.slices import Slices
from fednano.federation.plan import Plan, Round
from fednano.federation.plausible import implausible
from fednano.federation.transport import Reply
from fednano.optim.inner import is_square
from fednano.strategy.base import ServerState, Strategy, Update
from fednano.strategy.pacing import Pacing
from fednano.training.recorder import RunProgress
from fednano.training.worker import Result


class Received(Struct, frozen=True, kw_only=True):
    """The outcome of a reply: `accumulated`, or `refused` with a reason. `drained`: its client is leaving.

    `cause` says more about a reason that has many.
    """

    accumulated: UpdateFolded | None = None
    refused: str | None = None
    drained: bool = False
    cause: str = ""


@dataclass(frozen=True, kw_only=True)
class Intake:
    """Checks and accumulates the replies of one federation. Nothing that a client sends is trusted.

    Updates are of the fragments in `slices`. A `tally` counts the tokens of the rows that an update would retire, if
    the clients are in other hands.
    """

    strategy: Strategy
    plan: Plan
    ledger: Ledger
    clock: Clock
    progress: RunProgress
    slices: Slices = field(default_factory=Slices)
    tally: Tally | None = None

    @cached_property
    def pacing(self) -> Pacing:
        """When the strategy merges, and how much stale updates count."""
        return Pacing.of(self.strategy)

    def receive(self, reply: Reply, lease: Lease, round_: Round, state: ServerState) -> Received:
        """Accumulate or refuse the reply to the task under `lease`. A refused reply leaves the round unchanged."""
        if reply.failed:
            return Received(refused="error", cause=as_cause(reply.failure))
        drained = False
        try:
            # Each span that is left holds another row.
            result = reply.result(sum(span.rows for span in self.ledger.leased(lease.id).spans))
            reason = _unfit(result, lease, round_.given[lease.id].version)
            drained = result.done.drained and reason != "forged"
            if reason:
                return Received(refused=reason, drained=drained)
            trained = self._check(result, round_.planned[lease.id])
            if false := self._false(result, round_, trained):
                return Received(refused="implausible", drained=drained, cause=as_cause(false))
            if state.weights and not math.isfinite(result.done.loss):  # before megabytes are decoded
                return Received(refused="non_finite", drained=drained)
            fragment = round_.given[lease.id].fragment
            expected = self.slices.shapes(state.weights, fragment)
            sent, inner = reply.tensors(expected, tensors.shapes(state.inner))
            round_.inner.check(inner)
            submitted = _Submitted.measured(sent, inner, state.weights if round_.adopts else None)
        except ValueError as error:
            return Received(refused="malformed", drained=drained, cause=as_cause(str(error)))
        received = self._admit(result, submitted, fragment, round_, state, reply.size)
        return structs.replace(received, drained=drained)

    def _admit(
        self, result: Result, submitted: "_Submitted", fragment: int, round_: Round, state: ServerState, size: int
    ) -> Received:
        """Accumulate a well-formed result, unless its tensors are not finite or the guard refuses it."""
        delta, length, inner_length, clip = submitted.delta, submitted.norm, submitted.inner_norm, 1.0
        if delta:
            if not (math.isfinite(length) and math.isfinite(inner_length)):
                return Received(refused="non_finite")
            limit, outlying = self._limit(length, inner_length, fragment, result.done.steps, round_, state)
            if outlying:
                return Received(refused="outlying", cause=outlying)
            if length > limit:
                length, clip = limit, limit / length
                delta = tensors.scaled(delta, clip)
        done = result.done
        tokens, steps = self.slices.trained(result.task_client, fragment, done.tokens, done.steps)
        update = Update(
            client=result.task_client,
            tokens=tokens,
            steps=steps,
            version=result.version,
            staleness=state.version - result.version,
        )
        weight = self.strategy.weight(update)
        if not 0.0 < weight < math.inf:
            raise ValueError(
                f"the weight that {type(self.strategy).__name__} gives an update must be > 0 and finite, got {weight}; "
                "correct its method weight"
            )
        if delta and (discount := self.pacing.discount(update.staleness)) < 1.0:
            delta = tensors.scaled(delta, discount)
        event = self._event(result, round_.index, weight, length, size, clip)
        if self.slices.holdings:
            event = structs.replace(event, fragment=fragment)
            busy_s, given = event.busy_until - event.busy_from, round_.given[event.lease]
            self.slices.holdings.averages.trained(event.trained_s / event.steps, event.t - given.sent - busy_s)
        self._remember(event, inner_length, fragment)
        round_.inner.add(submitted.inner, weight)
        round_.planned[result.lease] = result.done.steps
        if round_.adopts:
            round_.adopted = submitted.whole if clip == 1.0 else tensors.subtract(state.weights, delta)
        round_.accumulators[fragment].add(delta, weight, update)
        round_.accumulate(event, fragment)
        return Received(accumulated=event)

    def _check(self, result: Result, planned: int) -> list[Stretch]:
        """The stretches of its lease that a result has trained.

        Raises ValueError unless the result is consistent and stays within its lease of `planned` steps.
        """
        done = result.done
        assert done.cursor is not None
        if not 0 < done.steps <= planned or done.tokens != done.steps * self.plan.tokens_per_step:
            raise ValueError(
                f"an update must report 1 to {planned} steps of {self.plan.tokens_per_step} tokens, got {done.steps} "
                f"steps and {done.tokens} tokens"
            )
        if result.ahead and not (len(result.ahead) == 2 and result.ahead[0] <= result.ahead[1] <= result.busy_from):
            raise ValueError(
                f"overlapped steps must end by {result.busy_from}, where its own steps begin, got {result.ahead}"
            )
        return self.ledger.trained(result.lease, *done.cursor, done.left)

    def _false(self, result: Result, round_: Round, trained: list[Stretch]) -> str | None:
        """Why a consistent result cannot be true; None if it can."""
        if false := implausible(result, round_.given[result.lease], self.clock.now(), wall()):
            return false
        done = result.done
        if least_tokens(trained) > done.tokens:
            return f"{done.steps} steps train {done.tokens} tokens, but there are more rows up to its cursor"
        if self.tally:
            try:
                self.tally.check(self.ledger.leased(result.lease).pool, trained, done.steps)
            except ValueError as error:
                return str(error)
        return None

    def _limit(
        self, length: float, inner_length: float, fragment: int, steps: int, round_: Round, state: ServerState
    ) -> tuple[float, str]:
        """The guard's limit of an update's norm, and why the update is refused; empty if it is not."""
        guard, progress = self.plan.guard, self.progress

        def model_norm() -> float:
            if fragment not in round_.model_norms:
                round_.model_norms[fragment] = tensors.norm(self.slices.weights(state.weights, fragment))
            return round_.model_norms[fragment]

        # Fragments differ in size, so each is compared with its like.
        norms = [(norm, taken) for norm, taken, index in progress.norms if index == fragment]
        limit = guard.limit(norms, steps, model_norm)
        if length > limit and guard.action == "refuse":
            return limit, f"its norm is {length:.6g}, and the guard's limit {limit:.6g}"
        if inner_length > (most := guard.state_limit(progress.state_norms, model_norm)):
            return limit, f"the norm of its optimizer state is {inner_length:.6g}, and the guard's limit {most:.6g}"
        return limit, ""

    def _remember(self, event: UpdateFolded, inner_length: float, fragment: int) -> None:
        """Note the norms of an accepted update for the guard's next limits."""
        progress, window = self.progress, self.plan.guard.window
        if window and 0.0 < event.norm < math.inf:  # at a learning rate of 0 it says nothing
            progress.norms = (*progress.norms, (event.norm, event.steps, fragment))[-window * self.slices.count :]
            progress.state_norms = (*progress.state_norms, inner_length)[-window:] if inner_length else ()

    def _event(self, result: Result, round_: int, weight: float, length: float, size: int, clip: float) -> UpdateFolded:
        done = result.done
        assert done.cursor is not None
        return UpdateFolded(
            t=self.clock.now(),
            round=round_,
            client=result.task_client,
            lease=result.lease,
            version=result.version,
            steps=done.steps,
            tokens=done.tokens,
            row=done.cursor[0],
            token=done.cursor[1],
            left=records_of(done.left),
            ahead=result.ahead,
            weight=weight,
            norm=length,
            clip=clip if clip < 1.0 else None,
            train_loss=done.loss,
            drained=done.drained,
            bytes=size,
            busy_from=result.busy_from,
            busy_until=result.busy_until,
            wall_train_s=done.train_s,
            wall_data_s=done.data_s,
        )


@dataclass(frozen=True, kw_only=True)
class _Submitted:
    """The tensors of a reply: `delta` with its norm, `inner` with its norm, and the weights if they were sent whole.

    Tensors may be decoded only when they are used: once to be measured, once more to be accumulated.
    """

    delta: Mapping[str, Tensor]
    norm: float
    inner: Mapping[str, Tensor]
    inner_norm: float
    whole: State | None = None

    @classmethod
    def measured(cls, sent: Mapping[str, Tensor], inner: Mapping[str, Tensor], base: State | None) -> "_Submitted":
        """What was sent: an update or, if there is a `base`, the weights that an update led to.

        Raises ValueError if it cannot be decoded.
        """
        _check_squares(inner)
        whole = None if base is None else dict(sent)
        delta = sent if base is None or whole is None else tensors.subtract(base, whole)
        return cls(
            delta=delta,
            norm=tensors.norm(delta) if delta else math.nan,
            inner=inner,
            inner_norm=tensors.norm(inner),
            whole=whole,
        )


def _check_squares(inner: Mapping[str, Tensor]) -> None:
    """Raise ValueError if a mean of squares in an optimizer's state is negative: its root would be NaN."""
    for name, _, values in tensors.blocks(inner):
        if is_square(name) and bool((values < 0).any()):
            raise ValueError(f"{name} in an optimizer's state must be >= 0, since it is a mean of squares")


def _unfit(result: Result, lease: Lease, version: int) -> str | None:
    """Why a result does not answer the task under `lease`; None if it does."""
    if not hmac.compare_digest(result.token.encode(), lease.token.encode()):
        return "forged"
    asked = lease.client, lease.round, version, lease.id
    if (result.task_client, result.round, result.version, result.lease) != asked:
        return "stale"
    return "empty" if result.done.cursor is None else None
