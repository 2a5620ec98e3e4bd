"""Merging and outer steps against hand-made figures and torch's own optimizers."""

import pytest
import torch

from fednano.core.tensors import State
from fednano.strategy.base import ServerState, Update
from fednano.strategy.mean import WeightedMean
from fednano.strategy.outer.nesterov import Nesterov
from fednano.strategy.outer.sgd import SGD
from fednano.strategy.synchronous import Synchronous


def one(*values: float) -> State:
    return {"w": torch.tensor(values)}


def test_accumulator_is_the_weighted_mean() -> None:
    accumulator = WeightedMean(one(0, 0))
    accumulator.add(one(1, 2), 1.0)
    accumulator.add(one(5, -2), 3.0)
    assert accumulator.result()["w"].tolist() == [4.0, -1.0]


def test_the_order_of_updates_leaves_no_trace() -> None:
    generator = torch.Generator().manual_seed(1)
    updates = [torch.randn(200_001, generator=generator) * 10.0 ** -(i % 6) for i in range(7)]
    weights = [float(51_200 - 977 * i) for i in range(7)]

    def mean(order: list[int]) -> torch.Tensor:
        accumulator = WeightedMean({"w": updates[0]})
        for i in order:
            accumulator.add({"w": updates[i]}, weights[i])
        return accumulator.result()["w"]

    first = mean([0, 1, 2, 3, 4, 5, 6])
    exact = sum(w * u.double() for w, u in zip(weights, updates, strict=True)) / sum(weights)
    assert torch.equal(first, mean([6, 3, 1, 0, 5, 4, 2]))
    assert torch.equal(first, mean([2, 5, 4, 6, 0, 1, 3]))
    torch.testing.assert_close(first.double(), exact, rtol=1e-7, atol=0.0)
    assert torch.equal(mean([4]), updates[4])


def test_accumulator_refuses_what_does_not_fit() -> None:
    accumulator = WeightedMean(one(0))
    with pytest.raises(ValueError, match="weight must be > 0, got"):
        accumulator.add(one(1), 0.0)
    with pytest.raises(ValueError, match="must be those of the global model"):
        accumulator.add({"v": torch.zeros(1)}, 1.0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_nesterov_equals_torch(momentum: float) -> None:
    weights = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    reference = torch.optim.SGD([weights], lr=0.7, momentum=momentum, nesterov=momentum > 0)
    state = ServerState(weights=one(1.0, -2.0))
    outer = Nesterov(lr=0.7, momentum=momentum)
    for delta in ((0.5, 0.1), (-0.2, 0.3), (0.05, -0.7)):
        weights.grad = torch.tensor(delta)
        reference.step()
        stepped, momenta = outer.step(state.weights, state.outer, one(*delta))
        state = ServerState(weights=stepped, outer=momenta, version=state.version + 1)
        torch.testing.assert_close(state.weights["w"], weights.detach())


def test_outer_steps_leave_their_arguments_alone() -> None:
    weights, momenta, delta = one(1.0), one(2.0), one(3.0)
    Nesterov().step(weights, momenta, delta)
    SGD().step(weights, momenta, delta)
    assert (weights["w"].item(), momenta["w"].item(), delta["w"].item()) == (1.0, 2.0, 3.0)


def test_fedavg_of_one_client_is_its_model() -> None:
    fedavg = Synchronous(name="fedavg", outer=SGD(1.0))
    base, local = one(1.0, 2.0), one(0.25, 3.5)
    merged = fedavg.merge(ServerState(weights=base, version=4), {"w": base["w"] - local["w"]})
    assert torch.equal(merged.weights["w"], local["w"])
    assert merged.version == 5


def test_weighting() -> None:
    update = Update(client="a", tokens=100, steps=5, version=0, staleness=0)
    assert Synchronous(name="x", outer=SGD()).weight(update) == 100.0
    assert Synchronous(name="x", outer=SGD(), weighting="uniform").weight(update) == 1.0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"local_steps": 0}, "strategy.local_steps must be >= 1, got 0"),
        ({"quorum": 0}, "strategy.quorum must be >= 1, got 0"),
        (
            {"weighting": "median"},
            "strategy.weighting must be uniform, tokens, tokens_squared_per_step or null, got median",
        ),
        ({"slack": 0.5}, "strategy.slack must be >= 1, got 0.5"),
    ],
)
def test_bad_settings_name_key_and_value(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Synchronous(name="x", outer=SGD(), **kwargs)


def test_bad_outer_settings() -> None:
    with pytest.raises(ValueError, match=r"strategy\.outer\.lr must be > 0, got 0"):
        SGD(0)
    with pytest.raises(ValueError, match=r"strategy\.outer\.momentum must be .*, got 1"):
        Nesterov(0.7, 1.0)
