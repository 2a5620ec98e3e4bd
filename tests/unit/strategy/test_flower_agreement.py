"""The strategies beside Flower's own, over rounds of random updates."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedTrimmedAvg,
    FedYogi,
    MultiKrum,
)
from flwr.serverapp.strategy import (
    Krum as FlowerKrum,
)

from fednano.core.tensors import State
from fednano.flower.compat.messages import adopt_identity, identity_kept
from fednano.strategy.base import ServerState, Update
from fednano.strategy.merging.krum import Krum
from fednano.strategy.merging.median import Median
from fednano.strategy.merging.trimmed_mean import TrimmedMean
from fednano.strategy.outer.adam import Adam
from fednano.strategy.outer.momentum import Momentum
from fednano.strategy.outer.sgd import SGD
from fednano.strategy.outer.yogi import Yogi
from fednano.strategy.synchronous import Synchronous

ROUNDS = 5
TOKENS = (640, 128, 256, 512, 64, 1024, 320)
SHAPES = {"embedding.weight": (5, 3), "blocks.0.attn.c_q.weight": (4, 4), "resid_lambdas": (2,)}


@pytest.fixture(autouse=True)
def _identity() -> Iterator[None]:
    """Flower builds no message in a process without an identity."""
    with identity_kept():
        adopt_identity()
        yield


def drawn(draw: torch.Generator, scale: float) -> State:
    return {name: scale * torch.randn(shape, generator=draw) for name, shape in SHAPES.items()}


def record(state: State) -> ArrayRecord:
    return ArrayRecord({name: Array(tensor.numpy()) for name, tensor in state.items()})


def replies(models: Sequence[State], tokens: Sequence[int]) -> list[Message]:
    """What Flower's clients send: their models, and how many examples they were trained on."""
    contents = (
        RecordDict({"arrays": record(model), "metrics": MetricRecord({"num-examples": examples})})
        for model, examples in zip(models, tokens, strict=True)
    )
    return [Message(content, dst_node_id=1, message_type="train") for content in contents]


def assert_agree(ours: Synchronous, flower: FedAvg, scale: object = None, tokens: Sequence[int] = TOKENS) -> None:
    """Step both through the same updates; Flower's strategies remember the model that they sent last."""
    draw = torch.Generator().manual_seed(5)
    state = ServerState(weights=drawn(draw, 1.0))
    sent = {name: tensor.clone() for name, tensor in state.weights.items()}
    for round_ in range(1, ROUNDS + 1):
        deltas = [drawn(draw, 0.1) for _ in tokens]
        models = [{name: sent[name] - delta[name] for name in sent} for delta in deltas]
        if isinstance(flower, FedAvgM):
            flower.current_arrays = flower.current_arrays or record(sent)
        elif isinstance(flower, FedAdam | FedYogi):
            flower.current_arrays = {name: tensor.numpy() for name, tensor in sent.items()}
        aggregated, _ = flower.aggregate_train(round_, replies(models, tokens))
        assert aggregated is not None
        sent = {name: torch.from_numpy(np.asarray(array.numpy())).float() for name, array in aggregated.items()}

        accumulator = ours.accumulator(state)
        for i, (delta, examples) in enumerate(zip(deltas, tokens, strict=True)):
            seen = Update(client=f"client_{i}", tokens=examples, steps=1, version=round_ - 1, staleness=0)
            accumulator.add(delta, ours.weight(seen), seen)
        pseudo_gradient = accumulator.result()
        if callable(scale):
            weights, outer = ours.outer.step(state.weights, state.outer, pseudo_gradient, scale(round_))
            state = ServerState(weights=weights, outer=outer)
        else:
            state = ours.merge(state, pseudo_gradient)
        for name, tensor in state.weights.items():
            assert torch.allclose(tensor, sent[name], rtol=1e-4, atol=1e-6), f"{name} of round {round_}"


def strategy(**keys: object) -> Synchronous:
    return Synchronous(name="x", **{"outer": SGD(1.0), **keys})  # type: ignore[arg-type]


def test_fedavg() -> None:
    assert_agree(strategy(), FedAvg())


@pytest.mark.parametrize(("lr", "momentum"), [(1.0, 0.9), (0.5, 0.0), (0.3, 0.5)])
def test_fedavgm(lr: float, momentum: float) -> None:
    flower = FedAvgM(server_learning_rate=lr, server_momentum=momentum)
    assert_agree(strategy(outer=Momentum(lr, momentum)), flower)


def test_fedyogi() -> None:
    flower = FedYogi(eta=0.05, beta_1=0.8, beta_2=0.9, tau=0.01)
    assert_agree(strategy(outer=Yogi(0.05, 0.8, 0.9, 0.01)), flower)


def test_fedadam_but_for_the_bias_correction() -> None:
    """Flower scales η by √(1 − β₂ᵗ⁺¹) / (1 − β₁ᵗ⁺¹) in round t; algorithm 2 of the paper does not."""
    flower = FedAdam(eta=0.05, beta_1=0.8, beta_2=0.9, tau=0.01)
    ours = strategy(outer=Adam(0.05, 0.8, 0.9, 0.01))
    assert_agree(ours, flower, scale=lambda round_: math.sqrt(1 - 0.9 ** (round_ + 1)) / (1 - 0.8 ** (round_ + 1)))
    with pytest.raises(AssertionError, match="of round 1"):
        assert_agree(ours, FedAdam(eta=0.05, beta_1=0.8, beta_2=0.9, tau=0.01))


@pytest.mark.parametrize("clients", [3, 6, 7])
def test_fedmedian(clients: int) -> None:
    assert_agree(strategy(merging=Median()), FedMedian(), tokens=TOKENS[:clients])


@pytest.mark.parametrize("share", [0.0, 0.15, 0.3, 0.45])
def test_fedtrimmedavg(share: float) -> None:
    assert_agree(strategy(merging=TrimmedMean(share)), FedTrimmedAvg(beta=share))


def test_krum() -> None:
    assert_agree(strategy(merging=Krum(1, 1)), FlowerKrum(num_malicious_nodes=1))


@pytest.mark.parametrize(("f", "m"), [(0, 7), (1, 4), (2, 3)])
def test_multi_krum_with_equal_examples(f: int, m: int) -> None:
    """Flower weighs the updates that it chooses by their examples; ours, as the paper, counts them alike."""
    flower = MultiKrum(num_malicious_nodes=f, num_nodes_to_select=m)
    assert_agree(strategy(merging=Krum(f, m)), flower, tokens=[64] * 7)
    with pytest.raises(AssertionError, match="of round 1"):
        assert_agree(strategy(merging=Krum(f, m)), flower)


def test_the_examples_count_in_fedavg() -> None:
    """Or agreement would say nothing about weights."""
    with pytest.raises(AssertionError, match="of round 1"):
        assert_agree(strategy(weighting="uniform"), FedAvg())
