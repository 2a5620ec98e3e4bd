"""Start of a run's worker pool: the setup of each process."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from fednano.core.inner_step import OnStep
from fednano.core.tensors import State
from fednano.model.gpt import GPT
from fednano.model.shapes import blueprint
from fednano.optim.inner import blank_state
from fednano.runtime.beginning import message_bytes
from fednano.runtime.parts import Parts
from fednano.runtime.workers.pool import WorkerPool
from fednano.runtime.workers.process import Setup, arrays_of
from fednano.strategy.streaming import Streaming
from fednano.training.checkpoint import Snapshot
from fednano.training.client_memory import owned, without_kept
from fednano.training.shared import SharedState


@contextmanager
def opened(parts: Parts, resume: Snapshot | None, on_step: OnStep) -> Iterator[WorkerPool]:
    """The workers of a new or resumed run; closed at the end of the block, whatever ends it."""
    parts.hardware.use()
    inner: Mapping[str, State] = {}
    spent = 0.0, 0.0
    if resume:
        inner, spent = resume.inner, (resume.train_s, resume.data_s)
    pool = WorkerPool(_setups(parts, inner), on_step, parts.store.drain_requested, spent)
    pool.remember(inner)
    try:
        yield pool
    finally:
        pool.close()


def _setups(parts: Parts, restored: Mapping[str, State]) -> list[Setup]:
    settings = parts.settings
    weights = blueprint(parts.gpt).state_dict()
    remembered = {} if parts.optim.state == "reset" else blank_state(parts.optim.build(GPT(parts.gpt)))
    averaged = remembered if parts.optim.state == "average" else {}
    size = message_bytes(parts)
    shared_weights, mean = SharedState(weights), SharedState(averaged)
    setups = []
    for index in range(parts.hardware.workers):
        mine = settings.names[index :: parts.hardware.workers]
        copies = {client: (SharedState(remembered), SharedState(remembered)) for client in mine}
        held = {client: without_kept(state) for client, state in restored.items() if client in copies}
        for client, state in held.items():
            copies[client][0].write(state)
        setups.append(
            Setup(
                gpt=parts.gpt,
                optim=parts.optim,
                hardware=replace(parts.hardware, threads=1),
                volatility=parts.volatility,
                seed=settings.seed,
                names=settings.names,
                submit_s=tuple(parts.network.submit_s(size.up, i) for i in range(settings.clients)),
                source=parts.source,
                pools=parts.pools.rows,
                packing=parts.packing,
                shape=parts.shape,
                weights=shared_weights,
                mean=mean,
                delta=SharedState(weights),
                inner=SharedState(averaged),
                copies=copies,
                restored={client: tuple(state) for client, state in held.items()},
                kept={client: arrays_of(owned(restored[client], "strategy", "stream")) for client in held},
                part=parts.strategy.client,
                streaming=Streaming.of(parts.strategy),
            )
        )
    return setups
