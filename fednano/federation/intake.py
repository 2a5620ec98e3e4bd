"""A reply as the server takes it: checked against what was asked for, then folded into its round, or refused."""

import hmac
import math
from dataclasses import dataclass

from flwr.app import Message

from fednano.coordination.store import Lease
from fednano.core import tensors
from fednano.core.clock import Clock
from fednano.core.events import UpdateFolded
from fednano.core.tensors import State
from fednano.data.ledger import Ledger, records_of
from fednano.federation.plan import Plan, Round
from fednano.flower import records
from fednano.flower.records import Codec
from fednano.strategy.base import ServerState, Strategy
from fednano.training.worker import Result


@dataclass(frozen=True)
class Received:
    """What became of a reply: `folded`, or `refused` with a reason. `drained`: its client leaves."""

    folded: UpdateFolded | None = None
    refused: str | None = None
    drained: bool = False


@dataclass(frozen=True, kw_only=True)
class Reception:
    """Takes replies, for the rounds of one federation. Nothing that a client sends is trusted."""

    strategy: Strategy
    plan: Plan
    ledger: Ledger
    clock: Clock
    codec: Codec

    def receive(self, reply: Message, lease: Lease, size: int, round_: Round, state: ServerState) -> Received:
        """Fold the answer, of `size` bytes, to what was asked for under `lease`. The round changes only if it fits."""
        if reply.has_error():
            return Received(refused="error")
        drained = False
        try:
            result = records.unpack_result(reply.content)
            reason = _unfit(result, lease, round_, state.version)
            drained = result.done.drained and reason != "forged"
            if reason:
                return Received(refused=reason, drained=drained)
            self._check(result, round_.planned[lease.id])
            sent, inner = records.unpack_update(reply.content, self.codec)
            round_.accumulator.check(sent)
            round_.inner.check(inner)
            delta = tensors.subtract(state.weights, sent) if round_.adopts else sent
            length = tensors.norm(delta) if delta else math.nan
            if delta and not all(map(math.isfinite, (length, result.done.loss, tensors.norm(inner)))):
                return Received(refused="non_finite", drained=drained)
            weight = self.strategy.weight(result.done.tokens, result.done.steps)
            _fold(delta, inner, weight, result, round_)
        except (KeyError, ValueError):
            return Received(refused="malformed", drained=drained)
        if round_.adopts:
            round_.adopted = sent
        event = self._event(result, weight, length, size)
        round_.folded.append(event)
        return Received(folded=event, drained=drained)

    def _check(self, result: Result, planned: int) -> None:
        """Raise ValueError unless the figures of a result fit together and lie inside its lease of `planned` steps."""
        done = result.done
        assert done.cursor is not None
        if not 0 < done.steps <= planned or done.tokens != done.steps * self.plan.tokens_per_step:
            raise ValueError(f"{done.steps} steps and {done.tokens} tokens do not go together")
        if result.ahead and not (len(result.ahead) == 2 and result.ahead[0] <= result.ahead[1] <= result.busy_from):
            raise ValueError(f"steps ahead at {result.ahead} do not lie before {result.busy_from}")
        self.ledger.check_cursor(result.lease, *done.cursor, done.left)

    def _event(self, result: Result, weight: float, length: float, size: int) -> UpdateFolded:
        done = result.done
        assert done.cursor is not None
        return UpdateFolded(
            t=self.clock.now(),
            round=result.round,
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
            train_loss=done.loss,
            drained=done.drained,
            bytes=size,
            busy_from=result.busy_from,
            busy_until=result.busy_until,
            wall_train_s=done.train_s,
            wall_data_s=done.data_s,
        )


def _unfit(result: Result, lease: Lease, round_: Round, version: int) -> str | None:
    """Why a result cannot be an answer to what was asked for under `lease`, if it cannot."""
    if not hmac.compare_digest(result.token.encode(), lease.token.encode()):
        return "forged"
    asked = lease.client, round_.index, version, lease.id
    if (result.task_client, result.round, result.version, result.lease) != asked:
        return "stale"
    return "empty" if result.done.cursor is None else None


def _fold(delta: State, inner: State, weight: float, result: Result, round_: Round) -> None:
    round_.accumulator.fold(delta, weight)
    round_.inner.fold(inner, weight)
    round_.planned[result.lease] = result.done.steps
