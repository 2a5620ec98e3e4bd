"""Streaming DiLoCo beside published histories of two scalar fragments, and fragments of real models."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from fednano.core import tensors
from fednano.core.clock import Clock, VirtualClock
from fednano.core.tensors import State
from fednano.data.ledger import Grant, Span
from fednano.data.loader import STREAM, Batch, TextSource
from fednano.federation.fragments.holdings import Holdings
from fednano.federation.fragments.slices import Slices
from fednano.model.arch import Arch
from fednano.model.gpt import GPTConfig
from fednano.model.shapes import blueprint
from fednano.strategy.base import ServerState, Update
from fednano.strategy.outer.sgd import SGD
from fednano.strategy.streaming import Fragments, Streaming, take_in
from fednano.strategy.synchronous import Synchronous
from fednano.training.client_memory import ClientMemory
from fednano.training.local import AfterStep, MayStep, StepPlan, StepsDone
from fednano.training.worker import ClientWorker, Result, Task

CASES = json.loads((Path(__file__).parents[2] / "fixtures" / "reference_streaming.json").read_text())["cases"]
P, STEPS = 2, 3  # fragments, and steps between two merges
NAMES = ("blocks.0.w", "blocks.1.w")


def encode(texts: Any) -> tuple[Any, Any]:
    raise AssertionError("the trainer reads no rows")


class Subtracting:
    """A trainer whose steps subtract 2 from everything; `history` holds the weights before each step."""

    def __init__(self) -> None:
        self.memory = ClientMemory()
        self.history: list[list[float]] = []

    def forget(self, client: str) -> None:
        self.memory.forget(client)

    def run(
        self,
        client: str,
        weights: State,
        batches: Iterable[Batch],
        plan: StepPlan,
        clock: Clock,
        may_step: MayStep,
        after_step: AfterStep,
    ) -> tuple[StepsDone, State]:
        for step in range(plan.steps):
            self.history.append([weights[name].item() for name in NAMES])
            weights = {name: tensor - 2.0 for name, tensor in weights.items()}
            after_step(step + 1, 0.0)
        cursor = (plan.steps, 0) if plan.steps else None
        done = StepsDone(steps=plan.steps, tokens=plan.steps, loss=0.0, cursor=cursor, drained=False, train_s=0.0)
        return done, weights


class Pair:
    """A client and the server's side of it: what `Federation` does in a round, without rows and messages."""

    def __init__(self, streaming: Streaming) -> None:
        self.trainer = Subtracting()
        self.worker = ClientWorker(
            client="c",
            trainer=self.trainer,
            source=TextSource(lambda rows: [], encode, 0),
            pools=[[]],
            shape=(1, 1),
            packing=STREAM,
            tokens_per_s=1.0,
            clock=VirtualClock(),
            may_step=lambda step_s: True,
            on_step=lambda step: None,
            streaming=streaming,
        )
        self.strategy = Synchronous(name="s", outer=SGD(2.0), stream=streaming)
        self.state = ServerState(weights={name: torch.ones(()) for name in NAMES})
        self.slices = Slices.of(self.strategy, self.state, {})
        self.holdings = self.slices.holdings

    def round(self, index: int, steps: int) -> tuple[Task, Result, State]:
        stream = self.slices.task("c", index, True, self.state)
        assert stream and self.slices.fragments
        sent = {name: self.state.weights[name] for i in stream.sent for name in self.slices.fragments.names[i]}
        task = Task(
            client="c", round=index, version=self.state.version, lease=index, grant=Grant(0, (Span(0, 0, 99),)),
            steps=steps, tokens_total=0, peers=1, horizon=10**9, stream=stream,
        )  # fmt: skip
        result, delta = self.worker.work(task, sent)
        return task, result, delta

    def merge(self, index: int, delta: State) -> None:
        due = index % self.slices.count
        part = self.slices.cut(self.state, due)
        accumulator = self.strategy.accumulator(part)
        accumulator.add(delta, 1.0, Update(client="c", tokens=1, steps=1, version=0, staleness=0))
        self.state = self.slices.joined(self.state, self.strategy.merge(part, accumulator.result()), due)
        self.holdings.versions[due] = self.state.version


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"delay {case['delay']}, alpha {case['alpha']}")
def test_the_histories_are_the_published_ones(case: dict[str, Any]) -> None:
    """There a fragment is taken before the steps of the delay and applied after them, every `STEPS` steps.

    Here a round ends with the submission, so that the delay belongs to the next round, and the first is shorter.
    """
    pair = Pair(Streaming(fragments=P, delay=case["delay"], alpha=case["alpha"]))
    synchronised = {int(step): values for step, values in case["global_at_step"].items()}
    assert [w.item() for w in pair.state.weights.values()] == synchronised[0]
    for index in range(math.ceil(len(case["local"]) / STEPS)):
        _, _, delta = pair.round(index, STEPS - (0 if index else case["delay"]))
        assert list(delta) == [NAMES[index % P]]
        pair.merge(index, delta)
        if (step := STEPS * (index + 1)) in synchronised:
            assert [w.item() for w in pair.state.weights.values()] == synchronised[step]
    count = min(len(case["local"]), len(pair.trainer.history))
    assert count > 2 * STEPS * P
    assert pair.trainer.history[:count] == case["local"][:count]


def test_what_a_client_holds_must_be_what_the_task_continues_from() -> None:
    pair = Pair(Streaming(fragments=P))
    pair.merge(0, pair.round(0, STEPS)[2])
    pair.worker.memory.forget("c")
    with pytest.raises(ValueError, match=r"the client holds versions \(\) of the fragments, not \(0, 0\)"):
        pair.round(1, STEPS)
    pair.holdings.forget("c")
    task, _, delta = pair.round(1, STEPS)
    assert task.stream and task.stream.anew and task.stream.sent == (0, 1)
    assert delta["blocks.1.w"].item() == 2.0 * STEPS  # its own steps, from the global weights


def test_a_client_that_missed_merges_gets_all_that_it_lacks() -> None:
    pair = Pair(Streaming(fragments=P, alpha=0.5))
    pair.merge(0, pair.round(0, STEPS)[2])
    pair.merge(1, {"blocks.1.w": torch.tensor(4.0)})  # another client's
    task, _, delta = pair.round(2, STEPS)
    assert task.stream and task.stream.sent == (0, 1) and not task.stream.anew
    # θ_0 = 1 − 2·6 = −11; the client's −5 becomes −8 and, after three steps, −14.
    assert delta["blocks.0.w"].item() == -11.0 - -14.0


def test_an_update_counts_by_what_it_was_trained_since_its_fragment_was_known() -> None:
    holdings = Holdings.of(3, {})
    holdings.give("c", 0, True)
    assert holdings.trained("c", 0, 30, 3) == (30, 3)
    holdings.versions[0] = 1
    holdings.give("c", 1, True)
    assert holdings.trained("c", 1, 20, 2) == (50, 5)
    assert Holdings.of(3, json.loads(json.dumps(holdings.record()))) == holdings
    holdings.versions[1] = 2
    assert holdings.give("c", 2, True).sent == (1,)
    assert [holdings.trained("c", index, 10, 1)[0] for index in (0,)] == [30]


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    width = 64 * layers
    config = GPTConfig(
        vocab_size=1024,
        sequence_len=16,
        layers=layers,
        heads=layers,
        kv_heads=layers,
        width=width,
        arch=Arch(name="seed"),
    )
    return tensors.shapes(blueprint(config).state_dict())


@pytest.mark.parametrize("layers", [2, 3, 6])
@pytest.mark.parametrize("count", [1, 2])
def test_fragments_are_strided_blocks_and_the_rest_evens_them_out(layers: int, count: int) -> None:
    model = shapes(layers)
    split = Fragments.split(model, count)
    assert sorted(name for names in split.names for name in names) == sorted(model)
    for index, names in enumerate(split.names):
        assert {int(name.split(".")[1]) % count for name in names if name.startswith("blocks.")} == {index}
    other = Fragments.split(dict(reversed(model.items())), count)
    assert list(map(set, other.names)) == list(map(set, split.names)), "a file does not keep the order of the names"
    if count > 1:
        sizes = [sum(math.prod(model[name]) for name in names) for names in split.names]
        largest = max(math.prod(shape) for name, shape in model.items() if not name.startswith("blocks."))
        assert max(sizes) - min(sizes) <= max(largest, max(sizes) / layers)


def test_a_fragment_without_tensors_is_refused() -> None:
    with pytest.raises(ValueError, match=r"strategy\.stream\.fragments must be <= the number of parts of the model"):
        Fragments.split({"blocks.0.w": (2,)}, 3)
    assert Fragments.split({}, 3).names == ((), (), ())


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"fragments": 0}, "strategy.stream.fragments must be >= 1, got 0"),
        ({"delay": -1}, "strategy.stream.delay must be >= 0 steps, got -1"),
        ({"alpha": 1.5}, "strategy.stream.alpha must be from 0 to 1, got 1.5"),
    ],
)
def test_settings_that_make_no_sense(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Streaming(**keys)


def test_taking_in() -> None:
    local, base, merged = ({"a": torch.tensor([x, y])} for x, y in ((3.0, 1e30), (5.0, 1e30), (10.0, -1e-30)))
    assert take_in(local, base, merged, None)["a"].tolist() == [8.0, pytest.approx(-1e-30)]
    assert torch.equal(take_in(local, base, merged, 0.0)["a"], merged["a"])
    assert torch.equal(take_in(local, base, merged, 1.0)["a"], local["a"])


def test_nothing_is_submitted_twice() -> None:
    """The second task comes before the first update is merged, so that the client goes on from its own weights."""
    pair = Pair(Streaming(fragments=1))
    first = pair.round(0, STEPS)[2]
    task, _, second = pair.round(1, STEPS)
    assert task.stream and task.stream.sent == ()
    assert {tensor.item() for delta in (first, second) for tensor in delta.values()} == {2.0 * STEPS}


@pytest.mark.parametrize("delay", [0, 1, STEPS, None])
@pytest.mark.parametrize("fragments", [1, P])
def test_nothing_that_is_trained_is_lost(fragments: int, delay: int | None) -> None:
    """Whatever the delay, all updates of a fragment make up all steps that were taken until the last of them."""
    pair = Pair(Streaming(fragments=fragments, delay=delay))
    submitted = dict.fromkeys(NAMES, 0.0)
    for index in range(6):
        delta = pair.round(index, STEPS)[2]
        for name, tensor in delta.items():
            submitted[name] += tensor.item()
        pair.merge(index, delta)
    steps = {NAMES[-1]: 6 * STEPS, NAMES[0]: (6 if fragments == 1 else 5) * STEPS}
    assert submitted == {name: 2.0 * taken for name, taken in steps.items()}


def test_what_would_be_dropped_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"strategy\.stream\.alpha must be null with strategy\.stream\.delay=null, got 0\.5"
    ):
        Streaming(delay=None, alpha=0.5)
