"""Dry run of the protocol without tensors: the tokens a run will merge, and whether its traces are long enough."""

import math
from collections.abc import Callable
from dataclasses import replace

from fednano.coordination.memory import MemoryStore
from fednano.core.clock import VirtualClock
from fednano.core.events import Event, RoundMerged, RoundSkipped
from fednano.core.failures import explained
from fednano.core.inner_step import InnerStep
from fednano.core.progress import Lasting, Progress, Silent
from fednano.federation.plan import Site
from fednano.federation.transport import MessageBytes
from fednano.flower.compat.messages import identity_kept
from fednano.runtime.beginning import first_ledger, message_bytes
from fednano.runtime.engine import Engine, federate, transport
from fednano.runtime.parts import Parts
from fednano.runtime.virtual_nodes import virtual_grid
from fednano.strategy.base import ServerState
from fednano.strategy.pacing import Pacing
from fednano.training.analytic import AnalyticTrainer
from fednano.training.budget import Budget, BudgetReach
from fednano.training.recorder import Recorder, RunProgress, unsaved
from fednano.volatility.membership import Membership

MOST_EVENTS = 10_000_000  # of a run that is played through before it starts, which takes some minutes
WITHOUT_TENSORS = (
    "This was before the run, while its rounds were played through without a model: strategies and their parts get no "
    "tensors then, only empty dictionaries, and must not fail (docs/extending.md, Strategy)."
)


def planned_tokens(parts: Parts, size: MessageBytes, live: bool = False, progress: Progress | None = None) -> int:
    """Tokens at which learning-rate schedules end: those of the budget, or those that the run is expected to merge.

    Raises ValueError if a trace ends before the run does.
    """
    tokens = parts.settings.budget.tokens
    if tokens is not None and not _may_end(parts):
        return tokens
    merged = foreseen(parts, size, live=live, progress=progress).tokens
    return max(parts.tokens_per_step, merged) if tokens is None else tokens


def foreseen(
    parts: Parts,
    size: MessageBytes,
    budget: Budget | None = None,
    live: bool = False,
    progress: Progress | None = None,
) -> RunProgress:
    """The progress at the end of the run if clients follow their traces and messages have `size` bytes.

    A `budget` replaces the one in the settings. `progress` is told of rounds if they take long.

    Raises ValueError if a trace ends before the run does, or if rounds continue without merging anything.
    """
    settings = parts.settings
    ends = parts.energy.ends(parts.volatility)
    bounded = settings.rounds is not None or settings.budget.virtual_hours is not None
    reach = BudgetReach(budget=settings.budget, bounded=bounded)

    heard = 0
    lasting = Lasting(progress or Silent(), "playing the rounds through before the run", settings.rounds, "rounds")

    def foresee(event: Event) -> None:
        nonlocal heard
        heard += 1
        if heard > MOST_EVENTS:
            raise ValueError(
                f"rounds must be few enough to play the run through before it starts, got more than {MOST_EVENTS:,} "
                f"events by {event.t:,.0f} s; use fewer rounds or clients, or set budget.tokens"
            )
        if isinstance(event, RoundMerged | RoundSkipped):
            lasting.advance(1)
        reach.hear(event)
        if event.t > ends:
            parts.energy.require(event.t, parts.volatility)

    if budget:
        parts = replace(parts, settings=replace(settings, budget=budget))
    try:
        return play(parts, size, VirtualClock(), foresee, live=live)
    except ValueError as error:
        refusal = reach.refusal(error)
        if refusal is error:  # which would become its own cause
            raise
        raise refusal from error
    except Exception as error:
        if explained(error) is None:
            error.add_note(WITHOUT_TENSORS)
        raise
    finally:
        lasting.finish()


def play(
    parts: Parts,
    size: MessageBytes,
    clock: VirtualClock,
    told: Callable[[Event], None],
    sites: dict[str, Site] | None = None,
    live: bool = False,
) -> RunProgress:
    """Play the protocol through on `clock` without tensors; returns the progress at its end.

    `told` is called with every event, and may advance the clock. `sites` replaces the server's view of the clients,
    which by default has the true hardware and network. The checkpoints of a `live` run wait for nobody.
    """
    settings = parts.settings
    waits = not (live and Pacing.of(parts.strategy).carries)
    membership = Membership.draw(parts.volatility, settings.names, settings.seed)
    recorder = Recorder(
        eval_every=settings.most_rounds,
        # No step overlaps a checkpoint.
        checkpoint_every=settings.checkpoint_every if waits else settings.most_rounds,
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
        state=ServerState(),
        ledger=first_ledger(parts),
        recorder=recorder,
        store=store,
        horizon=1,
    )
    with identity_kept():
        grid = virtual_grid(parts, trainer, membership, clock, store, size, _unseen)
        federation.run(transport(parts, grid, analytic_size=size))
    return recorder.progress


def check_traces(parts: Parts, progress: Progress | None = None) -> None:
    """Raise ValueError if the traces of clients or of their electricity end before the run does.

    This plays the run through, so it is skipped if no trace ends. A run that ends by its tokens alone is played until
    it has merged some.
    """
    settings, size = parts.settings, message_bytes(parts)
    if _may_end(parts):
        foreseen(parts, size, progress=progress)
    elif settings.rounds is None and settings.budget.virtual_hours is None:
        foreseen(parts, size, Budget(tokens=1), progress=progress)


def _may_end(parts: Parts) -> bool:
    """Whether a trace of clients or signals may end before the run does."""
    return not parts.volatility.endless or parts.energy.ends(parts.volatility) < math.inf


def analytic_trainer(parts: Parts, membership: Membership, size: MessageBytes) -> AnalyticTrainer:
    """The trainer that takes steps without tensors, for clients whose messages have `size` bytes."""
    submit_s = {client: parts.network.submit_s(size.up, i) for i, client in enumerate(parts.settings.names)}
    return AnalyticTrainer(
        parts.tokens_per_step,
        parts.tokens_per_row,
        lambda client, t: membership.steady_until(client, t) - submit_s[client],
    )


def _unseen(step: InnerStep) -> None:
    pass
