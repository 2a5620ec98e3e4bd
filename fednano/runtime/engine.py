"""What a runtime brings to a federation, and the federation made of that and of an experiment's parts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flwr.app import RecordDict

from fednano.coordination.store import CoordinationStore
from fednano.core.clock import Clock
from fednano.data.ledger import Ledger
from fednano.federation.loop import Federation
from fednano.federation.plan import Plan, Site
from fednano.flower import records
from fednano.runtime.parts import Parts
from fednano.runtime.recording import Resumable
from fednano.strategy.base import ServerState
from fednano.training.recorder import Recorder
from fednano.training.replicas import Replicas
from fednano.volatility.membership import Members


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What differs between the runtimes that run a federation.

    Args:
        name: of the runtime.
        clock: the run's.
        members: who is up.
        sites: the clients as the server sees them, by name; may be filled in once the engine knows them.
        size: bytes of a message's tensors.
        trainer: whose optimizer states and seconds checkpoints hold.
        replicas: the ranks that train together.
        live: whether clients are elsewhere, so that the server cannot know for certain what became of them.
        analytic: whether the protocol runs without tensors.
    """

    name: str
    clock: Clock
    members: Members
    sites: dict[str, Site]
    size: int
    trainer: Resumable
    replicas: Replicas = field(default_factory=Replicas)
    live: bool = False
    analytic: bool = False


def federate(
    parts: Parts,
    engine: Engine,
    *,
    state: ServerState,
    ledger: Ledger,
    recorder: Recorder,
    store: CoordinationStore,
    horizon: int,
) -> Federation:
    """The federation whose learning-rate schedules end at `horizon` tokens."""
    # Without tensors nothing is encoded, and messages are as long as they would be.
    wire: dict[str, Any] = {"pack": records.hold_task, "size": as_sent(engine.size)} if engine.analytic else {}
    plan = Plan(
        rounds=parts.settings.rounds,
        tokens_per_step=parts.tokens_per_step,
        horizon=horizon,
        lr_scale=parts.optim.schedule.scale,
        rows_for=parts.rows_for,
        length=parts.round,
        planner=parts.planner,
    )
    return Federation(
        strategy=parts.strategy,
        state=state,
        plan=plan,
        sites=engine.sites,
        ledger=ledger,
        store=store,
        membership=engine.members,
        clock=engine.clock,
        codec=parts.codec,
        recorder=recorder,
        live=engine.live,
        **wire,
    )


def as_sent(size: int) -> Callable[[RecordDict], int]:
    """The bytes of a message on the network, of which `size` are tensors."""
    return lambda content: size if records.carries_weights(content) else 0
