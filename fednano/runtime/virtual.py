"""Real training on a virtual clock: Flower's apps on our grid, in this process; the steps in it or in workers."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

from flwr.app import Context, RecordDict

from fednano.coordination.memory import MemoryStore
from fednano.coordination.store import CoordinationStore, StopRequestedError
from fednano.core.clock import Clock, VirtualClock
from fednano.core.events import Event, RunEnded, RunStarted
from fednano.data.ledger import Ledger
from fednano.federation.loop import Federation, make_server_app
from fednano.federation.plan import Plan, Site
from fednano.flower import records
from fednano.flower.client_app import make_client_app
from fednano.flower.virtual_grid import RUN_ID, SERVER_NODE_ID, VirtualGrid, VirtualNode
from fednano.process.memory import collecting_rarely
from fednano.runtime.parts import Parts, Resumable
from fednano.runtime.session import Outcome, Session, Status
from fednano.runtime.workers.pool import OnStep, PooledClient, WorkerPool, opened
from fednano.strategy.base import ServerState
from fednano.training.analytic import AnalyticTrainer
from fednano.training.budget import Budget, Reach
from fednano.training.local import LocalTrainer, Trainer
from fednano.training.recorder import Progress, Recorder, unsaved
from fednano.training.replicas import Replicas, joined
from fednano.training.worker import ClientWorker
from fednano.volatility.membership import Members, Membership
from fednano.volatility.presence import Presence


@dataclass(frozen=True)
class Virtual:
    """All clients on one machine; steps and transfers take the time that `hardware` and `network` say.

    Args:
        name: what it is called.
        compute: torch trains; analytic plays the same protocol without tensors, for its times, rows and bytes.
    """

    shared: ClassVar[str] = "batch_size"
    in_process: ClassVar[bool] = True
    name: str = "virtual"
    compute: Literal["torch", "analytic"] = "torch"

    def __post_init__(self) -> None:
        if self.compute not in ("torch", "analytic"):
            raise ValueError(f"runtime.compute={self.compute} is unknown; use torch or analytic")

    def check(self, parts: Parts) -> None:
        """Takes any parts."""

    def run(self, parts: Parts, session: Session) -> Outcome:
        rarely = collecting_rarely() if self.compute == "analytic" else nullcontext()
        with joined(parts.hardware.device) as replicas, rarely:
            on_step = parts.on_step(session, replicas)
            if parts.hardware.workers < 2 or self.compute == "analytic":
                return self._run(parts, session, replicas, on_step, None)
            with opened(parts, session.resume, on_step) as pool:
                return self._run(parts, session, replicas, on_step, pool)

    def _run(
        self, parts: Parts, session: Session, replicas: Replicas, on_step: OnStep, pool: WorkerPool | None
    ) -> Outcome:
        settings, resume = parts.settings, session.resume
        clock = VirtualClock(resume.clock if resume else 0.0)
        membership = Membership.draw(parts.volatility, settings.names, settings.seed)
        size = parts.message_bytes()
        trainer: LocalTrainer | AnalyticTrainer | WorkerPool
        if self.compute == "torch":
            state = parts.first_state(resume)
            if not resume:
                state = replace(state, inner=parts.blank_inner())
            horizon = planned_tokens(parts, size)
            trainer = pool or parts.trainer(parts.tokens_per_step, resume, replicas, split_rows=True)
            recorder = parts.recorder(session, clock, trainer, replicas)
        else:
            state = resume.state if resume else ServerState({}, {})
            # No learning rate asks for what will be merged; this is what never-ending windows would give.
            sites = [parts.site(i, size) for i in range(settings.clients)]
            round_tokens = parts.round.planned(sites, parts.strategy.local_steps, parts.tokens_per_step)
            round_s = parts.round.duration(sites, parts.strategy.local_steps, parts.tokens_per_step)
            horizon = settings.budget.tokens or settings.budget.rounds_within(settings.rounds, round_s) * round_tokens
            trainer = _analytic(parts, membership, size)
            recorder = parts.recorder(session, clock, trainer, replicas, lambda weights: (math.nan, math.nan))
            on_step = _heeding(parts.store)
            if resume:
                parts.store.skip(resume.leases)
        ledger = parts.ledger(resume)
        federation = federate(parts, state, ledger, recorder, membership, clock, parts.store, horizon, size)
        if resume:
            federation.resume(resume.up, resume.leaving)
        session.start(run_started(self.name, parts, horizon))
        if isinstance(trainer, WorkerPool):
            grid = _pooled_grid(parts, trainer, membership, clock, size)
        else:
            grid = _grid(parts, trainer, membership, clock, parts.store, size, on_step)
        app = make_server_app(lambda context: federation)
        run = partial(app, grid, Context(RUN_ID, SERVER_NODE_ID, {}, RecordDict(), {}))
        outcome = concluded(run, parts, session, federation, recorder, trainer)
        goodput = _goodput(parts, membership, clock.now(), outcome.progress.tokens)
        return replace(outcome, virtual_s=clock.now(), goodput=goodput)


def concluded(
    run: Callable[[], None],
    parts: Parts,
    session: Session,
    federation: Federation,
    recorder: Recorder,
    trainer: Resumable,
) -> Outcome:
    """Let `run` play the federation to its end, or to where it is stopped or fails, and say how that was."""
    status, error = played(run)
    if status != "completed":
        federation.abandon()
        recorder.checkpoint()
    progress, t = recorder.progress, recorder.clock.now()
    session.emit(RunEnded(t=t, status=status, rounds=progress.rounds, tokens_total=progress.tokens))
    return Outcome(
        status=status,
        strategy=parts.strategy.name,
        state=federation.state,
        progress=progress,
        clients=parts.settings.clients,
        rows=federation.ledger.counts(),
        train_s=trainer.train_s,
        data_s=trainer.data_s,
        virtual_s=None,
        goodput=None,
        error=error,
    )


def played(run: Callable[[], None]) -> tuple[Status, Exception | None]:
    """How `run` ended, and what made it fail."""
    try:
        run()
    except StopRequestedError:
        return "interrupted", None
    except Exception as error:
        return "failed", error
    return "completed", None


def planned_tokens(parts: Parts, size: int) -> int:
    """Tokens at which learning-rate schedules end: the budget's, else what the run merges if all goes as foreseen.

    Raises ValueError where a trace ends before the run does.
    """
    tokens = parts.settings.budget.tokens
    if tokens is not None and not _may_end(parts):
        return tokens
    merged = foreseen(parts, size).tokens
    return max(parts.tokens_per_step, merged) if tokens is None else tokens


def foreseen(parts: Parts, size: int, budget: Budget | None = None) -> Progress:
    """How the run ends if all goes as the traces say: the protocol played through without tensors.

    Given a `budget`, it is played until that is used up. Raises ValueError where a trace ends before the run does, or
    where rounds go on without merging anything.
    """
    settings = parts.settings
    ends = parts.energy.ends(parts.volatility)
    bounded = settings.rounds is not None or settings.budget.virtual_hours is not None
    reach = Reach(budget=settings.budget, bounded=bounded)

    def foresee(event: Event) -> None:
        reach.hear(event)
        if event.t > ends:
            parts.energy.require(event.t, parts.volatility)

    if budget:
        parts = replace(parts, settings=replace(settings, budget=budget))
    try:
        return play(parts, size, VirtualClock(), foresee)
    except ValueError as error:
        raise reach.refusal(error) from error


def play(
    parts: Parts,
    size: int,
    clock: VirtualClock,
    told: Callable[[Event], None],
    sites: dict[str, Site] | None = None,
) -> Progress:
    """Play the protocol through on `clock` without tensors; how far it came.

    `told` hears every event, and may let time pass at it. `sites` are the clients as the server sees them, unless it is
    right about hardware and network.
    """
    settings = parts.settings
    membership = Membership.draw(parts.volatility, settings.names, settings.seed)
    recorder = Recorder(
        eval_every=settings.most_rounds,
        checkpoint_every=settings.checkpoint_every,  # nobody goes ahead over a checkpoint
        evaluate=lambda _: (0.0, 0.0),
        mark=unsaved,
        emit=told,
        clock=clock,
        progress=Progress(),
    )
    trainer = _analytic(parts, membership, size)
    state, ledger = ServerState({}, {}), parts.ledger()
    store = MemoryStore()
    federation = federate(parts, state, ledger, recorder, membership, clock, store, 1, size, sites)
    federation.run(_grid(parts, trainer, membership, clock, store, size, _unseen))
    return recorder.progress


def check_traces(parts: Parts) -> None:
    """Raise ValueError where clients, or signals of their electricity, end before the run does.

    Only playing it through shows that, so runs of which nothing ends are not. Where tokens alone end a run, it is
    played until it has merged some.
    """
    settings, size = parts.settings, parts.message_bytes()
    if _may_end(parts):
        foreseen(parts, size)
    elif settings.rounds is None and settings.budget.virtual_hours is None:
        foreseen(parts, size, Budget(tokens=1))


def _may_end(parts: Parts) -> bool:
    """Whether clients or signals may end before the run does."""
    return not parts.volatility.endless or parts.energy.ends(parts.volatility) < math.inf


def _unseen(client: str, round_index: int, step: int, steps: int, loss: float, tokens: int) -> None:
    pass


def _heeding(store: CoordinationStore) -> OnStep:
    """Heeds a request to stop after a client's steps, and shows none of them."""

    def told(client: str, round_index: int, step: int, steps: int, loss: float, tokens: int) -> None:
        store.check_stop()

    return told


def _analytic(parts: Parts, membership: Membership, size: int) -> AnalyticTrainer:
    submit_s = {client: parts.network.submit_s(size, i) for i, client in enumerate(parts.settings.names)}
    return AnalyticTrainer(
        parts.tokens_per_step,
        parts.tokens_per_row,
        lambda client, t: membership.steady_until(client, t) - submit_s[client],
    )


def federate(
    parts: Parts,
    state: ServerState,
    ledger: Ledger,
    recorder: Recorder,
    membership: Members,
    clock: Clock,
    store: CoordinationStore,
    horizon: int,
    size: int,
    sites: dict[str, Site] | None = None,
    live: bool = False,
) -> Federation:
    """The federation of these parts; `sites` are those of hardware and network, unless others are given."""
    if sites is None:
        sites = {client: parts.site(i, size) for i, client in enumerate(parts.settings.names)}
    # Without weights nothing is encoded, and messages are as long as they would be.
    wire: dict[str, Any] = {} if state.weights else {"pack": records.hold_task, "size": _as_sent(size)}
    plan = Plan(
        rounds=parts.settings.most_rounds,
        tokens_per_step=parts.tokens_per_step,
        horizon=horizon,
        lr_scale=parts.optim.schedule.scale,
        rows_for=parts.rows_for,
        length=parts.round,
        planner=parts.planner,
        budget=parts.settings.budget,
    )
    return Federation(
        strategy=parts.strategy,
        state=state,
        plan=plan,
        sites=sites,
        ledger=ledger,
        store=store,
        membership=membership,
        clock=clock,
        codec=parts.codec,
        recorder=recorder,
        live=live,
        **wire,
    )


def _as_sent(size: int) -> Callable[[RecordDict], int]:
    """The bytes of a message on the network, of which `size` are tensors."""
    return lambda content: size if records.carries_weights(content) else 0


def _grid(
    parts: Parts,
    trainer: Trainer,
    membership: Membership,
    clock: VirtualClock,
    store: CoordinationStore,
    size: int,
    on_step: OnStep,
) -> VirtualGrid:
    """The grid whose nodes share `trainer`; every message is `size` bytes long on the network."""
    nodes = []
    workers = {}
    for i, client in enumerate(parts.settings.names):
        own = VirtualClock()
        presence = Presence(membership, client, own, parts.network.submit_s(size, i))
        worker = ClientWorker(
            client=client,
            trainer=trainer,
            source=parts.source,
            pools=parts.pools.rows,
            shape=parts.shape,
            packing=parts.packing,
            tokens_per_s=parts.hardware.speed(i),
            clock=own,
            may_step=presence.may_step,
            on_step=on_step,
            speed=partial(membership.speed, client),
            asked=store.drain_requested,
            might_step=presence.might_step,
        )
        workers[client] = worker
        nodes.append(VirtualNode(client, own, presence, worker.crashed))
    app = make_client_app(lambda context: workers[str(context.node_config["name"])], parts.codec)
    return VirtualGrid(
        app=app, nodes=nodes, clock=clock, network=parts.network, size=_as_sent(size), seed=parts.settings.seed
    )


def _pooled_grid(parts: Parts, pool: WorkerPool, membership: Membership, clock: VirtualClock, size: int) -> VirtualGrid:
    """The grid whose nodes have their work done by `pool`; every message is `size` bytes long on the network."""
    nodes = []
    clients = {}
    for i, client in enumerate(parts.settings.names):
        own = VirtualClock()
        clients[client] = PooledClient(client, own, pool)
        presence = Presence(membership, client, own, parts.network.submit_s(size, i))
        nodes.append(VirtualNode(client, own, presence, clients[client].crashed))

    def begin(client: str, content: RecordDict) -> None:
        clients[client].begin(*records.unpack_task(content, parts.codec))

    app = make_client_app(lambda context: clients[str(context.node_config["name"])], parts.codec)
    return VirtualGrid(
        app=app,
        nodes=nodes,
        clock=clock,
        network=parts.network,
        size=_as_sent(size),
        seed=parts.settings.seed,
        begin=begin,
    )


def run_started(runtime: str, parts: Parts, horizon: int) -> RunStarted:
    settings = parts.settings
    return RunStarted(
        t=0.0,
        runtime=runtime,
        strategy=parts.strategy.name,
        volatility=parts.volatility.name,
        clients=settings.names,
        parameters=parts.parameters(),
        rounds=settings.rounds or 0,
        local_steps=parts.strategy.local_steps,
        tokens_per_step=parts.tokens_per_step,
        tokens_planned=horizon,
        seed=settings.seed,
        train_rows=sum(len(rows) for rows in parts.pools.rows),
    )


def _goodput(parts: Parts, membership: Membership, until: float, tokens: int) -> float | None:
    """Tokens merged ÷ tokens that the clients could have trained while they were up."""
    names = parts.settings.names
    possible = sum(membership.full_seconds(c, until) * parts.hardware.speed(i) for i, c in enumerate(names))
    return tokens / possible if possible else None
