"""A federation of hand-made clients on the virtual clock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import torch
from flwr.app import Context, Message, RecordDict

from fednano.codec.pair import CodecPair
from fednano.coordination.memory import MemoryStore
from fednano.core.clock import VirtualClock
from fednano.core.events import (
    CheckpointSaved,
    Event,
)
from fednano.core.tensors import State
from fednano.data.ledger import Ledger
from fednano.federation.guard import Guard
from fednano.federation.loop import Federation
from fednano.federation.plan import UNGUARDED, Plan, Site
from fednano.flower.client_app import make_client_app
from fednano.flower.server_app import make_server_app
from fednano.flower.transport import FlowerTransport
from fednano.flower.virtual_grid import RUN_ID, SERVER_NODE_ID, VirtualGrid, VirtualNode
from fednano.report.audit import audit
from fednano.strategy.base import ServerState, Strategy
from fednano.strategy.outer.sgd import SGD
from fednano.strategy.synchronous import Synchronous
from fednano.training.client_memory import ClientMemory
from fednano.training.local import StepsDone
from fednano.training.recorder import Recorder, RunProgress
from fednano.training.worker import Result, Task
from fednano.volatility.availability import Availability, Window
from fednano.volatility.membership import Membership
from fednano.volatility.network import Network
from fednano.volatility.presence import Presence

SAVED = CheckpointSaved(t=0.0, round=0, version=0, name="x")


H, STEP_S, TOKENS = 10, 1.0, 40


LINK = Network(
    name="test", up_mbit_s=8.0, down_mbit_s=8.0, latency_s=0.25
)  # 0.25 s and no bytes: transfers take 0.25 s


@dataclass
class FakeWorker:
    """Steps that only take time; each subtracts 1 from the weight. Rows hold four tokens."""

    clock: VirtualClock
    presence: Presence
    spoil: Callable[[Task, Result, State], tuple[Result, State]] = lambda task, result, delta: (result, delta)
    crashes: int = 0
    memory: ClientMemory = field(default_factory=ClientMemory)

    def work(self, task: Task, weights: State) -> tuple[Result, State]:
        begun = self.clock.now()
        steps, drained = 0, False
        while steps < task.steps:
            if not self.presence.may_step(STEP_S):
                drained = True
                break
            self.clock.charge(STEP_S)
            steps += 1
        cursor = _advance(task, steps * TOKENS) if steps else None
        done = StepsDone(steps=steps, tokens=steps * TOKENS, loss=1.0, cursor=cursor, drained=drained, train_s=0.0)
        result = Result(
            task_client=task.client,
            round=task.round,
            version=task.version,
            lease=task.lease,
            done=done,
            busy_from=begun,
            busy_until=self.clock.now(),
            token=task.token,
        )
        return self.spoil(task, result, {"w": torch.full((1,), float(steps))})

    def crashed(self) -> None:
        self.crashes += 1


def _advance(task: Task, tokens: int) -> tuple[int, int]:
    for span in task.grant.spans:
        room = 4 * span.rows - span.token
        if tokens < room:
            at = span.token + tokens
            return span.row + at // 4, at % 4
        tokens -= room
    return task.grant.spans[-1].stop, 0


@dataclass
class Outcome:
    federation: Federation
    workers: dict[str, FakeWorker]
    events: list[Event] = field(default_factory=list)

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]


def federate(
    windows: Sequence[Sequence[Window]],
    rounds: int = 1,
    quorum: int = 1,
    slack: float = 1.5,
    spoil=None,
    rows: int = 1000,
    seen: Sequence[Sequence[Window]] | None = None,
    tamper: Callable[[RecordDict], RecordDict] | None = None,
    weight: float = 0.0,
    guard: Guard = UNGUARDED,
    strategy: Strategy | None = None,
    grid: type[VirtualGrid] = VirtualGrid,
) -> Outcome:
    """Run the protocol over clients with the given windows; with other ones `seen` by the server, as a live one.

    The last client sends what `tamper` makes of its replies. The model begins as one `weight`.
    """
    names = [f"c{i}" for i in range(len(windows))]

    def drawn(windows: Sequence[Sequence[Window]]) -> Membership:
        return Membership({name: Availability(iter(w)) for name, w in zip(names, windows, strict=True)})

    membership = drawn(windows)
    clock, events = VirtualClock(), []
    recorder = Recorder(
        eval_every=rounds,
        checkpoint_every=rounds,
        evaluate=lambda w: (1.0, 1.0),
        mark=lambda *_: lambda: SAVED,
        emit=events.append,
        clock=clock,
        progress=RunProgress(),
    )
    federation = Federation(
        strategy=strategy or Synchronous(name="test", outer=SGD(1.0), local_steps=H, quorum=quorum, slack=slack),
        state=ServerState(weights={"w": torch.tensor([weight])}),
        plan=Plan(
            rounds=rounds,
            tokens_per_step=TOKENS,
            horizon=10**9,
            lr_scale=lambda *_: 1.0,
            rows_for=lambda pool, tokens: -(-tokens // 4),
            guard=guard,
        ),
        sites={
            name: Site(node_id=SERVER_NODE_ID + 1 + i, pool=0, step_s=STEP_S, down_s=0.25, up_s=0.25)
            for i, name in enumerate(names)
        },
        ledger=Ledger([rows]),
        store=MemoryStore(map(str, count()).__next__),
        membership=drawn(seen) if seen else membership,
        clock=clock,
        recorder=recorder,
        live=seen is not None,
    )
    workers, nodes = {}, []
    for name in names:
        own = VirtualClock()
        presence = Presence(membership, name, own, 0.25)
        workers[name] = FakeWorker(own, presence, **({"spoil": spoil} if spoil else {}))
        nodes.append(VirtualNode(name, own, presence, workers[name].crashed))
    app = make_client_app(lambda context: workers[context.node_config["name"]], CodecPair())
    honest = app

    def send(message: Message, context: Context) -> Message:
        reply = honest(message, context)
        if tamper is None or context.node_config["name"] != names[-1]:
            return reply
        return Message(tamper(reply.content), reply_to=message)

    made = grid(app=send, nodes=nodes, clock=clock, network=LINK, size=lambda content: 0)
    app = make_server_app(lambda grid: federation.run(FlowerTransport(grid, CodecPair())))
    app(made, Context(RUN_ID, SERVER_NODE_ID, {}, RecordDict(), {}))
    outcome = Outcome(federation, workers, events)
    checked = audit(events)
    assert checked.violations == []
    assert not checked.open_leases
    counts = federation.ledger.counts()
    assert (counts["lost"], counts["doubled"], counts["leased"]) == (0, 0, 0)
    assert counts["done"] == checked.rows_done
    return outcome
