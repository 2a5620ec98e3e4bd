"""The protocol played through without tensors: what a run will merge, and whether traces last as long as it does."""

import math
from collections.abc import Callable

from fednano.coordination.memory import MemoryStore
from fednano.core.clock import VirtualClock
from fednano.core.events import Event
from fednano.core.inner_step import InnerStep
from fednano.federation.plan import Site
from fednano.federation.transport import MessageBytes
from fednano.flower.transport import FlowerTransport
from fednano.flower.virtual_grid import identity_kept
from fednano.runtime.beginning import first_ledger, message_bytes
from fednano.runtime.engine import Engine, federate
from fednano.runtime.parts import Parts
from fednano.runtime.virtual_nodes import as_predicted, virtual_grid
from fednano.strategy.base import ServerState
from fednano.training.analytic import AnalyticTrainer
from fednano.training.recorder import Recorder, RunProgress, unsaved
from fednano.volatility.membership import Membership


def planned_tokens(parts: Parts, size: MessageBytes) -> int:
    """Tokens that the run will merge if all goes as the traces say, when messages have `size` bytes.

    Learning-rate schedules end there, and the centralized baseline trains as many. Raises ValueError where a trace ends
    before that.
    """
    ends = parts.energy.ends(parts.volatility)

    def foresee(event: Event) -> None:
        if event.t > ends:
            parts.energy.require(event.t, parts.volatility)

    return max(parts.tokens_per_step, play(parts, size, VirtualClock(), foresee))


def play(
    parts: Parts,
    size: MessageBytes,
    clock: VirtualClock,
    told: Callable[[Event], None],
    sites: dict[str, Site] | None = None,
) -> int:
    """Play the protocol through on `clock` without tensors; the tokens that were merged.

    `told` hears every event, and may let time pass at it. `sites` are the clients as the server sees them, unless it is
    right about hardware and network.
    """
    settings = parts.settings
    membership = Membership.draw(parts.volatility, settings.names, settings.seed)
    recorder = Recorder(
        eval_every=settings.rounds,
        checkpoint_every=settings.checkpoint_every,  # nobody goes ahead over a checkpoint
        evaluate=lambda _: (0.0, 0.0),
        mark=unsaved,
        emit=told,
        clock=clock,
        progress=RunProgress(),
    )
    trainer = analytic_trainer(parts, membership, size)
    store = MemoryStore()
    engine = Engine(
        name="play-through",
        clock=clock,
        members=membership,
        sites=parts.sites(size) if sites is None else sites,
        size=size,
        trainer=trainer,
        analytic=True,
    )
    federation = federate(
        parts,
        engine,
        state=ServerState({}, {}),
        ledger=first_ledger(parts),
        recorder=recorder,
        store=store,
        horizon=1,
    )
    with identity_kept():
        grid = virtual_grid(parts, trainer, membership, clock, store, size, _unseen)
        federation.run(FlowerTransport(grid, parts.codec, as_predicted(size), trains=False))
    return recorder.progress.tokens


def check_traces(parts: Parts) -> None:
    """Raise ValueError where clients, or signals of their electricity, end before the run does.

    Only playing it through shows that, so runs of which nothing ends are not.
    """
    if not parts.volatility.endless or parts.energy.ends(parts.volatility) < math.inf:
        planned_tokens(parts, message_bytes(parts))


def analytic_trainer(parts: Parts, membership: Membership, size: MessageBytes) -> AnalyticTrainer:
    """What takes steps without tensors, for clients whose messages have `size` bytes."""
    submit_s = {client: parts.network.submit_s(size.up, i) for i, client in enumerate(parts.settings.names)}
    return AnalyticTrainer(
        parts.tokens_per_step,
        parts.tokens_per_row,
        lambda client, t: membership.steady_until(client, t) - submit_s[client],
    )


def _unseen(step: InnerStep) -> None:
    pass
