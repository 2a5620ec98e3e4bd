"""Strategies of Flower's own behind fednano's interface, over rounds of random updates."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import (
    Bulyan,
    DifferentialPrivacyServerSideFixedClipping,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedXgbBagging,
    FedYogi,
    QFedAvg,
)

from fednano.core import tensors
from fednano.core.tensors import State
from fednano.flower.strategy_state import restore, saved
from fednano.flower.wrapped_strategy import Wrapped
from fednano.strategy.base import ServerState, Update
from fednano.strategy.outer.adam import Adam
from fednano.strategy.outer.sgd import SGD
from fednano.strategy.synchronous import Synchronous
from fednano.training.tensor_files import load_tensors, save_tensors

SHAPES = {"v": (5, 3), "w": (4,), "b": ()}
TOKENS = (640, 128, 256, 512, 64)


def drawn(seed: int, scale: float) -> State:
    draw = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(shape, generator=draw) for name, shape in SHAPES.items()}


def start() -> ServerState:
    return ServerState(weights=drawn(0, 1.0))


def merged(strategy: Any, state: ServerState, clients: Sequence[int] = range(5)) -> ServerState:
    accumulator = strategy.accumulator(state)
    for i in clients:
        update = Update(client=f"c{i}", tokens=TOKENS[i], steps=1, version=state.version, staleness=0)
        accumulator.add(drawn(1 + i + 10 * state.version, 0.1), strategy.weight(update), update)
    return strategy.merge(state, accumulator.result())


def digest(state: ServerState) -> tuple[str, str]:
    return tensors.digest(state.weights), tensors.digest(state.outer)


@pytest.mark.parametrize("weighting", ["tokens", "uniform"])
def test_fedavg_is_fednanos_within_rounding(weighting: str) -> None:
    ours: Any = Synchronous(name="x", outer=SGD(), weighting=weighting)
    wrapped, own = start(), start()
    for _ in range(3):
        wrapped = merged(Wrapped(wrapped=FedAvg(), weighting=weighting), wrapped)
        own = merged(ours, own)
        for name, tensor in own.weights.items():
            torch.testing.assert_close(wrapped.weights[name], tensor, rtol=1e-5, atol=1e-6)
    assert wrapped.version == 3 and wrapped.outer == {}


def test_fedadams_moments_are_kept_between_merges() -> None:
    """Flower's Adam scales η by √(1 − β₂ᵗ⁺¹) / (1 − β₁ᵗ⁺¹) in round t."""
    wrapped, own, outer = start(), start(), Adam(lr=0.1, beta1=0.9, beta2=0.99, tau=1e-3)
    strategy = Wrapped(wrapped=FedAdam(eta=0.1))
    for t in range(1, 5):
        wrapped = merged(strategy, wrapped)
        ours = Synchronous(name="x", outer=SGD())
        accumulator = ours.accumulator(own)
        for i in range(5):
            update = Update(client=f"c{i}", tokens=TOKENS[i], steps=1, version=own.version, staleness=0)
            accumulator.add(drawn(1 + i + 10 * own.version, 0.1), ours.weight(update), update)
        scale = (1 - 0.99 ** (t + 1)) ** 0.5 / (1 - 0.9 ** (t + 1))
        weights, moments = outer.step(own.weights, own.outer, accumulator.result(), scale)
        own = ServerState(weights=weights, outer=moments, version=t)
        for name, tensor in own.weights.items():
            torch.testing.assert_close(wrapped.weights[name], tensor, rtol=1e-4, atol=1e-5)
    assert {name.rpartition(":")[0] for name in wrapped.outer} == {"m_t:dict", "v_t:dict"}


STATEFUL = [FedAdam, FedYogi, lambda: FedAvgM(server_momentum=0.9)]


@pytest.mark.parametrize("make", STATEFUL)
def test_a_state_from_a_file_goes_on_bit_for_bit(make: Callable[[], FedAvg], tmp_path: Path) -> None:
    strategy, state = Wrapped(wrapped=make()), start()
    for _ in range(2):
        state = merged(strategy, state)
    for held, name in ((state.weights, "weights"), (state.outer, "outer")):
        save_tensors(dict(reversed(held.items())), tmp_path / name)
    weights, outer = (load_tensors(tmp_path / name) for name in ("weights", "outer"))
    again = ServerState(weights=weights, outer=outer, version=2)
    before = digest(state)
    assert digest(merged(strategy, state)) == digest(merged(Wrapped(wrapped=make()), again))
    assert digest(state) == before  # what came in stays as it was
    forgetful = ServerState(weights=weights, version=2)
    assert digest(merged(strategy, forgetful)) != digest(merged(strategy, state))


@pytest.mark.parametrize("make", [*STATEFUL, FedTrimmedAvg, FedMedian])
def test_the_order_of_arrival_does_not_matter(make: Callable[[], FedAvg]) -> None:
    strategy, states = Wrapped(wrapped=make()), [start(), start()]
    for _ in range(2):
        states = [merged(strategy, states[0]), merged(strategy, states[1], clients=(3, 0, 4, 2, 1))]
    assert digest(states[0]) == digest(states[1])


def test_one_broken_client_does_not_move_robust_ones() -> None:
    for flower in (FedMedian(), FedTrimmedAvg(beta=0.2)):
        strategy, state = Wrapped(wrapped=flower), start()
        accumulator = strategy.accumulator(state)
        for i in range(5):
            update = Update(client=f"c{i}", tokens=1, steps=1, version=0, staleness=0)
            far = {name: torch.full(shape, 1e6 if i == 2 else 0.1) for name, shape in SHAPES.items()}
            accumulator.add(far, 1.0, update)
        delta = accumulator.result()
        assert tensors.norm(delta) == pytest.approx(tensors.norm({n: torch.full(s, 0.1) for n, s in SHAPES.items()}))


def test_a_single_update_and_none() -> None:
    state = start()
    for flower in (FedAvg(), FedMedian(), FedTrimmedAvg(), FedAdam()):
        one = merged(Wrapped(wrapped=flower), state, clients=(1,))
        assert one.version == 1
        assert tensors.digest(one.weights) != tensors.digest(state.weights)
    with pytest.raises(ValueError, match="it returns no arrays"):
        merged(Wrapped(wrapped=FedAvg()), state, clients=())  # rounds below the quorum are skipped before that


def test_planning_needs_no_tensors() -> None:
    strategy = Wrapped(wrapped=FedAdam())
    accumulator = strategy.accumulator(ServerState())
    accumulator.add({}, 1.0, Update(client="c0", tokens=1, steps=1, version=0, staleness=0))
    assert strategy.merge(ServerState(), accumulator.result()).version == 1


# What is kept


class Odd(FedAvg):
    """Keeps whatever it is told to, and changes it in place."""

    def __init__(self, kept: Any) -> None:
        super().__init__()
        self.kept = kept

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        if isinstance(self.kept, dict):
            self.kept["x"] = self.kept.get("x", np.zeros(2)) + 1
        elif isinstance(self.kept, list):
            self.kept.append(np.ones(1, dtype=np.float32))
        elif callable(self.kept):
            self.kept = self.kept()
        else:
            self.kept = self.kept + self.kept
        return super().aggregate_train(server_round, replies)


@pytest.mark.parametrize(
    ("first", "third"),
    [(1, 8), (0.1, 0.8), (np.float32(0.1), np.float32(0.8)), (np.float64(0.1), np.float64(0.8))],
)
def test_numbers_keep_their_type(first: Any, third: Any) -> None:
    strategy, state = Wrapped(wrapped=Odd(first)), start()
    for _ in range(3):
        state = merged(strategy, state)
    fresh = Odd(first)
    restore(fresh, state.outer)
    assert type(fresh.kept) is type(third) and fresh.kept == pytest.approx(third)
    assert strategy.wrapped.kept == first  # type: ignore[attr-defined]


def test_containers_that_change_in_place_are_kept() -> None:
    for kept in ({}, []):
        strategy, state = Wrapped(wrapped=Odd(kept)), start()
        for _ in range(3):
            state = merged(strategy, state)
        fresh = Odd(type(kept)())
        restore(fresh, state.outer)
        assert (fresh.kept["x"].tolist() == [3.0, 3.0]) if isinstance(kept, dict) else len(fresh.kept) == 3
        assert not kept


def test_a_record_of_arrays_comes_back() -> None:
    fresh, used = Odd(0), Odd(ArrayRecord({"b": Array(np.ones(2)), "a": Array(np.zeros((2, 1)))}))
    restore(fresh, saved(used, Odd(0)))
    assert list(fresh.kept) == ["a", "b"]
    assert fresh.kept["b"].numpy().tolist() == [1.0, 1.0]


# What is refused


@pytest.mark.parametrize("made", [object, lambda: "text", lambda: [np.ones(1), "text"], lambda: {"a": 1.5}])
def test_what_cannot_be_saved_is_refused_at_the_start(made: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"got Odd, which fails .* \(checkpoints cannot hold its attribute kept, a "):
        Wrapped(wrapped=Odd(made))


class Random(FedAvg):
    """Adds noise of Flower's own kind."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        arrays, metrics = super().aggregate_train(server_round, replies)
        assert arrays is not None
        noise = np.random.default_rng()
        return ArrayRecord({n: Array(a.numpy() + noise.random(a.shape)) for n, a in arrays.items()}), metrics


class Short(FedAvg):
    """Loses an array."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        arrays, metrics = super().aggregate_train(server_round, replies)
        assert arrays is not None
        arrays.pop("w")
        return arrays, metrics


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: FedProx(proximal_mu=0.1),
            "it tells clients proximal-mu, and fednano's clients take no such instructions",
        ),
        (lambda: QFedAvg(client_learning_rate=0.1), "Missing or invalid training loss"),
        (FedXgbBagging, "got FedXgbBagging, which fails on trial"),
        (Bulyan, "strategy.quorum=1 updates .it returns no arrays, which may be for want of updates"),
        (Random, "it gives different results for the same updates"),
        (Short, "it returns nothing for w of"),
        (
            lambda: DifferentialPrivacyServerSideFixedClipping(FedAvg(), 1.0, 1.0, 2),
            "must derive from Flower's FedAvg, got DifferentialPrivacyServerSideFixedClipping, .* or strategy/dp=gauss",
        ),
    ],
)
def test_strategies_that_need_more_are_refused(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        Wrapped(wrapped=make())
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_bulyan_runs_with_a_quorum_that_suits_it() -> None:
    assert merged(Wrapped(wrapped=Bulyan(), quorum=3), start()).version == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"local_steps": 0}, r"strategy\.local_steps must be >= 1, got 0"),
        ({"quorum": 0}, r"strategy\.quorum must be >= 1, got 0"),
        ({"slack": 0.5}, r"strategy\.slack must be >= 1, got 0\.5"),
        ({"weighting": "loss"}, r"strategy\.weighting must be tokens or uniform, got loss"),
    ],
)
def test_bad_settings(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Wrapped(wrapped=FedAvg(), **settings)
