"""The time and memory that the server spends on each of a catalogue of replies, most of them malformed or extreme."""

import gc
import resource
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch

from fednano.coordination.store import Lease
from fednano.core.clock import Stopwatch, VirtualClock, wall
from fednano.core.tensors import State
from fednano.data.ledger import Ledger
from fednano.federation.fragments.slices import Accumulators
from fednano.federation.guard import NormGuard
from fednano.federation.intake import Intake, Received
from fednano.federation.plan import Given, Plan, Round
from fednano.flower.strangers import CODECS, FULL, Strangers
from fednano.flower.transport import FlowerTransport
from fednano.model.arch import SEED
from fednano.model.gpt import GPTConfig
from fednano.model.scaling import Depth
from fednano.model.shapes import blueprint
from fednano.process.memory import most_growth
from fednano.strategy.base import ServerState
from fednano.strategy.mean import WeightedMean
from fednano.strategy.outer.sgd import SGD
from fednano.strategy.synchronous import Synchronous
from fednano.training.local import StepsDone
from fednano.training.recorder import RunProgress
from fednano.training.worker import Result

VOCABULARY = 4096
STEPS, TOKENS, ROWS = 50, 2048, 1000
SPENT_S = 100.0  # on the run's clock, since the task was sent
TOKEN = "token"
PROC = Path("/proc/self")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a reply costs. `full`: it is honest in form, so that it may cost what an honest one does.

    Times are wall-clock, but for `slowest_cpu_ms`. Memory is what comes in addition to the message's own: what Python
    and NumPy traced, and what the process grew by, which includes torch's.
    """

    name: str
    verdict: str
    cause: str
    full: bool
    median_ms: float
    slowest_ms: float
    slowest_cpu_ms: float
    traced_bytes: int
    resident_bytes: int
    model_bytes: int

    @property
    def peak_bytes(self) -> int:
        return max(self.traced_bytes, self.resident_bytes)

    @property
    def share(self) -> float:
        """The peak as a share of the model's size."""
        return self.peak_bytes / self.model_bytes


class Hall:
    """The server's intake of a model of `depth`, with one task given out."""

    def __init__(self, depth: int) -> None:
        model = blueprint(GPTConfig.derive(Depth(depth), SEED, VOCABULARY))
        self.weights = {name: torch.full(tensor.shape, 0.02) for name, tensor in model.state_dict().items()}
        self.bytes = sum(4 * tensor.numel() for tensor in self.weights.values())
        self.lease = Lease(id=0, client="client_0", round=0, expires=1e9, token=TOKEN)
        self._ledger = Ledger([ROWS])
        self._ledger.lease(0, 0, ROWS)
        self._clock = VirtualClock(SPENT_S)
        self.replies: list[Any] = []
        self._transport = FlowerTransport(cast(Any, self), CODECS)

    def pull_messages(self, message_ids: list[str]) -> list[Any]:
        """As of Flower's grid."""
        return self.replies

    def result(self) -> Result:
        """What an honest client tells."""
        cursor = (STEPS, 0)
        done = StepsDone(
            steps=STEPS, tokens=STEPS * TOKENS, loss=2.0, cursor=cursor, drained=False, train_s=50.0, data_s=1.0
        )
        return Result(
            task_client=self.lease.client,
            round=0,
            version=0,
            lease=0,
            done=done,
            busy_from=10.0,
            busy_until=60.0,
            token=TOKEN,
        )

    def update(self) -> State:
        return {name: torch.full_like(tensor, 1e-3) for name, tensor in self.weights.items()}

    def ready(self) -> Callable[[], Received]:
        """The intake of the first reply in a round that has none yet."""
        round_ = Round(
            index=0,
            started=0.0,
            ends=SPENT_S,
            closes=2 * SPENT_S,
            accumulators=Accumulators(lambda _: WeightedMean(self.weights)),
            inner=WeightedMean({}),
            planned={0: STEPS},
            given={0: Given(granted=0.0, sent=0.0, wall=wall() - SPENT_S, version=0)},
        )
        strategy: Any = Synchronous(name="hostile", outer=SGD(1.0), local_steps=STEPS, quorum=1, slack=1.5)
        plan = Plan(
            rounds=1,
            tokens_per_step=TOKENS,
            horizon=1,
            lr_scale=lambda *_: 1.0,
            rows_for=lambda *_: ROWS,
            guard=NormGuard(),
        )
        intake = Intake(strategy=strategy, plan=plan, ledger=self._ledger, clock=self._clock, progress=RunProgress())
        state = ServerState(weights=self.weights)

        def receive() -> Received:
            (reply,) = self._transport.pull("task")
            return intake.receive(reply, self.lease, round_, state)

        return receive


def costs(depth: int, repeats: int, **sizes: int) -> Iterator[Cost]:
    """What each reply of the catalogue costs; `sizes` are those of `Strangers`."""
    hall = Hall(depth)
    strangers = Strangers(hall.result(), hall.update(), **sizes)
    gc.freeze()  # a collection looks at the replies only
    try:
        for name in strangers.names:
            hall.replies = [strangers.make(name)]
            yield cost(name, hall, repeats)
            hall.replies = []
    finally:
        gc.unfreeze()


def cost(name: str, hall: Hall, repeats: int) -> Cost:
    """What the intake of the hall's present reply costs."""
    receive = hall.ready()
    received = receive()
    measured = [_timed(receive) for _ in range(repeats)]
    seconds, cpu_s = zip(*measured, strict=True)
    return Cost(
        name=name,
        verdict=received.refused or "accepted",
        cause=received.cause,
        full=name in FULL,
        median_ms=1e3 * median(seconds),
        slowest_ms=1e3 * max(seconds),
        slowest_cpu_ms=1e3 * max(cpu_s),
        traced_bytes=_traced(receive),
        resident_bytes=most_growth(receive),
        model_bytes=hall.bytes,
    )


def _timed(receive: Callable[[], Received]) -> tuple[float, float]:
    """Seconds and CPU seconds of one intake."""
    watch, before = Stopwatch(), resource.getrusage(resource.RUSAGE_SELF)
    with watch:
        receive()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return watch.seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _traced(receive: Callable[[], Received]) -> int:
    """Most bytes that Python and NumPy hold at a time during one intake."""
    tracemalloc.start()
    try:
        receive()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
