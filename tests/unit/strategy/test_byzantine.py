"""Byzantine clients: what they submit."""

import pytest
import torch

from fednano.core import tensors
from fednano.strategy.byzantine import Attack, Byzantine

DELTA = {"w": torch.tensor([3.0, 0.0]), "b": torch.tensor([-4.0])}


def submitted(
    attack: Attack, factor: float | None, client: str = "bad", round_: int = 1, seed: int = 0
) -> tensors.State:
    part = Byzantine(clients=["bad"], attack=attack, factor=factor, seed=seed)
    return part.begin({}, {}, client, round_).update(DELTA, 5)


def test_only_the_named_clients_attack() -> None:
    assert submitted("sign_flip", 2.0, client="good") == DELTA


def test_signs_and_scales() -> None:
    assert [tensor.tolist() for tensor in submitted("sign_flip", 2.0).values()] == [[-6.0, 0.0], [8.0]]
    assert [tensor.tolist() for tensor in submitted("scale", 10.0).values()] == [[30.0, 0.0], [-40.0]]


def test_factors_unless_told() -> None:
    assert submitted("sign_flip", None)["b"].item() == 4.0
    assert submitted("scale", None)["b"].item() == -4e6
    assert tensors.norm(submitted("random", None)) == pytest.approx(5.0)


def test_noise_has_the_norm_asked_for_and_is_drawn_by_seed_client_and_round() -> None:
    first = submitted("random", 2.0)
    assert tensors.norm(first) == pytest.approx(10.0)
    assert {name: tensor.shape for name, tensor in first.items()} == tensors.shapes(DELTA)
    assert all(torch.equal(submitted("random", 2.0)[name], tensor) for name, tensor in first.items())
    for other in (submitted("random", 2.0, round_=2), submitted("random", 2.0, seed=1)):
        assert not torch.equal(other["w"], first["w"])


@pytest.mark.parametrize("attack", ["sign_flip", "scale", "random"])
def test_weights_that_are_submitted_are_those_that_the_attack_leads_to(attack: Attack) -> None:
    base = {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor([-2.0])}
    local = tensors.subtract(base, DELTA)
    part = Byzantine(clients=["bad"], attack=attack, factor=2.0)
    found = part.begin(base, {}, "bad", 1).weights(local, 5)
    expected = tensors.subtract(base, submitted(attack, 2.0))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items()) and found.keys() == base.keys()
    assert part.begin(base, {}, "good", 1).weights(local, 5) is local
    assert part.begin({}, {}, "bad", 1).weights({}, 5) == {}  # a run without a model


@pytest.mark.parametrize(
    ("attack", "factor", "why"),
    [
        ("lie", 1.0, r"strategy\.client\.attack must be sign_flip, scale, random, got lie; use one of them"),
        ("scale", 0.0, r"strategy\.client\.factor must be > 0 and finite, got 0\.0; use 1 or null"),
        ("scale", float("inf"), r"strategy\.client\.factor must be > 0 and finite, got inf"),
    ],
)
def test_bad_settings_are_named(attack: Attack, factor: float, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Byzantine(clients=["bad"], attack=attack, factor=factor)
