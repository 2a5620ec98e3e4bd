"""Real training on a virtual clock: Flower's apps on our grid in this process, steps here or in worker processes."""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

from flwr.app import Context, RecordDict

from fednano.coordination.store import CoordinationStore
from fednano.core.clock import VirtualClock
from fednano.core.inner_step import InnerStep, OnStep
from fednano.flower.server_app import make_server_app
from fednano.flower.virtual_grid import RUN_ID, SERVER_NODE_ID
from fednano.process.memory import collecting_rarely
from fednano.runtime.beginning import local_trainer, message_bytes
from fednano.runtime.engine import Engine, transport
from fednano.runtime.parts import Parts
from fednano.runtime.play_through import analytic_trainer
from fednano.runtime.session import Outcome, Session
from fednano.runtime.startup import showing, start
from fednano.runtime.virtual_nodes import virtual_grid
from fednano.runtime.workers.opening import opened
from fednano.runtime.workers.pool import WorkerPool
from fednano.runtime.workers.pooled_nodes import pooled_grid
from fednano.training.analytic import AnalyticTrainer
from fednano.training.local import LocalTrainer
from fednano.training.replicas import Replicas, joined
from fednano.volatility.membership import Membership


@dataclass(frozen=True)
class Virtual:
    """All clients on one machine; steps and transfers take the time given by `hardware` and `network`.

    Args:
        name: the runtime's name.
        compute: `torch` trains; `analytic` runs the same protocol without tensors, for its times, rows and bytes.
    """

    shared: ClassVar[str] = "batch_size"
    in_process: ClassVar[bool] = True
    name: str = "virtual"
    compute: Literal["torch", "analytic"] = "torch"

    def __post_init__(self) -> None:
        if self.compute not in ("torch", "analytic"):
            raise ValueError(f"runtime.compute must be torch or analytic, got {self.compute}; choose one of them")

    def check(self, parts: Parts) -> None:
        """Any parts are valid."""

    def run(self, parts: Parts, session: Session) -> Outcome:
        rarely = collecting_rarely() if self.compute == "analytic" else nullcontext()
        with joined(parts.hardware.device) as replicas, rarely:
            if self.compute == "analytic":
                return self._run(parts, session, replicas, _heeding(parts.store), None)
            on_step = showing(session.sink, parts.store, replicas)
            if parts.hardware.workers < 2:
                return self._run(parts, session, replicas, on_step, None)
            with opened(parts, session.resume, on_step) as pool:
                return self._run(parts, session, replicas, on_step, pool)

    def _run(
        self, parts: Parts, session: Session, replicas: Replicas, on_step: OnStep, pool: WorkerPool | None
    ) -> Outcome:
        settings, resume = parts.settings, session.resume
        clock = VirtualClock(resume.clock if resume else 0.0)
        membership = Membership.draw(parts.volatility, settings.names, settings.seed)
        size = message_bytes(parts)
        analytic = self.compute == "analytic"
        trainer: LocalTrainer | AnalyticTrainer | WorkerPool
        if analytic:
            trainer = analytic_trainer(parts, membership, size)
        else:
            trainer = pool or local_trainer(parts, parts.tokens_per_step, replicas, resume=resume)
        engine = Engine(
            name=self.name,
            clock=clock,
            members=membership,
            sites=parts.sites(size),
            size=size,
            trainer=trainer,
            replicas=replicas,
            analytic=analytic,
        )
        begun = start(parts, session, engine)
        if isinstance(trainer, WorkerPool):
            grid = pooled_grid(parts, trainer, membership, clock, size)
        else:
            grid = virtual_grid(parts, trainer, membership, clock, parts.store, size, on_step)
        carrier = transport(parts, grid, size if analytic else None)
        app = make_server_app(lambda _: begun.federation.run(carrier))
        outcome = begun.finish(partial(app, grid, Context(RUN_ID, SERVER_NODE_ID, {}, RecordDict(), {})))
        goodput = _goodput(parts, membership, clock.now(), outcome.progress.tokens)
        return replace(outcome, virtual_s=clock.now(), goodput=goodput)


def _heeding(store: CoordinationStore) -> OnStep:
    """A callback that checks for a request to stop after a client's steps, and shows none of them."""

    def told(step: InnerStep) -> None:
        store.check_stop()

    return told


def _goodput(parts: Parts, membership: Membership, until: float, tokens: int) -> float | None:
    """Tokens merged ÷ tokens that the clients could have trained while they were up."""
    names = parts.settings.names
    possible = sum(membership.full_seconds(c, until) * parts.hardware.speed(i) for i, c in enumerate(names))
    return tokens / possible if possible else None
