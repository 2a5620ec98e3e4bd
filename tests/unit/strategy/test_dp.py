"""Differential privacy: clipping, noise, and the accountant."""

import math

import pytest
import torch

from fednano.core import tensors
from fednano.core.tensors import BLOCK, Lazy, State, TensorBlock
from fednano.strategy.base import ServerState, Update, summarized
from fednano.strategy.dp import Gaussian, epsilon
from fednano.strategy.mean import WeightedMean
from fednano.strategy.merging.mean import Mean
from fednano.strategy.merging.median import Median
from fednano.strategy.outer.sgd import SGD
from fednano.strategy.synchronous import Synchronous


def update(client: str = "a") -> Update:
    return Update(client=client, tokens=1, steps=1, version=0, staleness=0)


def private(clip: float = 1.0, z: float = 1.0, **settings: int) -> Synchronous:
    dp = Gaussian(clip=clip, noise_multiplier=z, **settings)
    return Synchronous(name="private", outer=SGD(), weighting="uniform", dp=dp)


def merged(strategy: Synchronous, *deltas: tuple[str, State], version: int = 0) -> State:
    state = ServerState(weights={n: torch.zeros_like(t) for n, t in deltas[0][1].items()}, version=version)
    accumulator = strategy.accumulator(state)
    for client, delta in deltas:
        accumulator.add(delta, strategy.weight(update(client)), update(client))
    return accumulator.result()


QUIET = 1e-9  # a noise multiplier: next to no noise


def test_updates_are_clipped_as_a_whole_by_hand() -> None:
    """(3, 4) over two tensors has the norm 5; clipped to 2.5 it is (1.5, 2), and the mean with (1, 0) is (1.25, 1)."""
    far = {"x": torch.tensor([3.0]), "y": torch.tensor([4.0])}
    near = {"x": torch.tensor([1.0]), "y": torch.tensor([0.0])}
    mean = merged(private(clip=2.5, z=QUIET), ("a", far), ("b", near))
    assert mean["x"].item() == pytest.approx(1.25, abs=1e-5)
    assert mean["y"].item() == pytest.approx(1.0, abs=1e-5)
    assert far["x"].item() == 3.0


def test_no_client_adds_more_than_the_clip_to_a_merge() -> None:
    """Of a second update only what the first has left counts; a third one adds nothing, but is counted."""
    x = {"w": torch.tensor([3.0, 4.0])}
    mean = merged(private(clip=6.0, z=QUIET), ("a", x), ("a", x), ("a", x), ("b", {"w": torch.zeros(2)}))
    assert tensors.norm(mean) * 4 == pytest.approx(6.0, rel=1e-5)
    assert tensors.norm(merged(private(clip=6.0, z=QUIET), ("a", x), ("b", x))) * 2 == pytest.approx(10.0, rel=1e-5)


def test_encoded_updates_are_clipped_block_by_block() -> None:
    whole = {"w": torch.randn(3 * BLOCK + 7, generator=torch.Generator().manual_seed(0))}

    class Decoded(Lazy):
        def __getitem__(self, name: str) -> torch.Tensor:
            raise AssertionError("a whole tensor was built")

    def blocks() -> list[TensorBlock]:
        return list(tensors.blocks(whole))

    lazy = Decoded(tensors.shapes(whole), lambda: iter(blocks()))
    strategy = private(clip=0.5)
    accumulator = strategy.accumulator(ServerState(weights=whole))
    accumulator.add(lazy, 1.0, update())
    assert tensors.digest(accumulator.result()) == tensors.digest(merged(strategy, ("a", whole)))


def test_noise_has_the_deviation_of_the_clip_over_the_updates() -> None:
    still = {"w": torch.zeros(500, 400), "v": torch.zeros(50_000)}
    for z, clip, n in ((1.0, 2.0, 1), (0.5, 2.0, 4), (3.0, 0.1, 8)):
        noise = merged(private(clip=clip, z=z), *((f"c{i}", still) for i in range(n)))
        for name, entries in noise.items():
            deviation = z * clip / n
            assert entries.std().item() == pytest.approx(deviation, rel=0.02), name
            assert abs(entries.mean().item()) < 5 * deviation / math.sqrt(entries.numel()), name
            within = (entries.abs() < deviation).float().mean().item()
            assert within == pytest.approx(0.6827, abs=0.01), name


def test_noise_is_that_of_its_seed_version_and_merge() -> None:
    delta = {"w": torch.ones(100), "v": torch.ones(100)}

    def noise(seed: int = 1, version: int = 3, delta: State = delta) -> State:
        mean = merged(private(clip=1e6, z=1.0, seed=seed), ("a", delta), version=version)
        return tensors.subtract(mean, delta)

    first = noise()
    assert tensors.digest(first) == tensors.digest(noise())
    assert tensors.digest(first) == tensors.digest(noise(delta=dict(reversed(delta.items()))))
    others = (noise(seed=2), noise(version=4), noise(delta={"w": torch.ones(100), "v": torch.full((100,), 1.5)}))
    for other in others:
        assert (first["w"] - other["w"]).abs().max() > 1e4
    assert (first["w"] - first["v"]).abs().max() > 1e4


def test_planning_needs_no_tensors() -> None:
    strategy = private()
    accumulator = strategy.accumulator(ServerState())
    accumulator.add({}, 1.0, update())
    assert accumulator.result() == {}
    assert strategy.merge(ServerState(), {}).version == 1


# The accountant


def delta_of(epsilon: float, sigma: float) -> float:
    """δ(ε) of a Gaussian release: Balle and Wang 2018, theorem 8."""
    below = lambda x: 0.5 * math.erfc(-x / math.sqrt(2))  # noqa: E731
    return below(0.5 / sigma - epsilon * sigma) - math.exp(epsilon) * below(-0.5 / sigma - epsilon * sigma)


@pytest.mark.parametrize(("z", "merges"), [(1.0, 1), (1.0, 10), (20.0, 1000), (0.5, 3)])
def test_epsilon_is_the_exact_one_of_the_composition(z: float, merges: int) -> None:
    found = epsilon(z, merges, 1e-5)
    assert delta_of(found, z / math.sqrt(merges)) == pytest.approx(1e-5, rel=1e-6)


def test_epsilon_agrees_with_an_accountant_that_knows_nothing_of_gaussians() -> None:
    """4.377 is the ε of noise multiplier 1 at δ = 1e-5 in the literature; Rényi's bound is above, and not far."""
    from dp_accounting import GaussianDpEvent, SelfComposedDpEvent
    from dp_accounting.rdp import RdpAccountant

    assert epsilon(1.0, 1, 1e-5) == pytest.approx(4.377, abs=1e-3)
    bound = RdpAccountant().compose(SelfComposedDpEvent(GaussianDpEvent(8.0), 50)).get_epsilon(1e-5)
    assert 0.9 * bound < epsilon(8.0, 50, 1e-5) < bound


def test_epsilon_grows_with_merges_and_shrinks_with_noise() -> None:
    spent = [epsilon(4.0, merges, 1e-5) for merges in (0, 1, 2, 5, 50, 5000)]
    assert spent[0] == 0.0 and spent == sorted(set(spent))
    assert epsilon(8.0, 5, 1e-5) < epsilon(4.0, 5, 1e-5)


def test_the_summary_says_what_was_spent() -> None:
    privacy = summarized(private(clip=2.0, z=4.0), 9)["privacy"]
    assert privacy == {
        "epsilon": epsilon(4.0, 9, 1e-5),
        "delta": 1e-5,
        "noise_multiplier": 4.0,
        "clip": 2.0,
        "merges": 9,
    }
    assert summarized(Synchronous(name="plain", outer=SGD()), 9) == {}


# Bad values


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"clip": 0.0}, r"strategy\.dp\.clip must be > 0, got 0\.0; use the norm of a typical update"),
        ({"noise_multiplier": -1.0}, r"strategy\.dp\.noise_multiplier must be > 0, got -1\.0; 1 is usual"),
        ({"delta": 1.0}, r"strategy\.dp\.delta must be > 0 and < 1, got 1\.0; use less than 1 / number of clients"),
    ],
)
def test_bad_settings(settings: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Gaussian(**{"clip": 1.0, "noise_multiplier": 1.0, **settings})


class Own(Synchronous):
    """A strategy from outside."""

    def accumulator(self, state: ServerState) -> WeightedMean:
        return WeightedMean(state.weights)


def test_what_the_accountant_knows_nothing_of_is_refused() -> None:
    dp = Gaussian(clip=1.0, noise_multiplier=1.0)
    with pytest.raises(ValueError, match=r"strategy\.weighting must be uniform with strategy\.dp=gaussian, got tokens"):
        Synchronous(name="x", outer=SGD(), weighting="tokens", dp=dp)
    with pytest.raises(ValueError, match=r"strategy\._target_ must be one of .*, got .*test_dp\.Own, whose merges may"):
        Own(name="x", outer=SGD(), weighting="uniform", dp=dp)


def test_other_merging_than_the_mean_is_refused() -> None:
    dp = Gaussian(clip=1.0, noise_multiplier=1.0)

    assert Synchronous(name="x", outer=SGD(), merging=Mean(), dp=dp).dp is dp
    with pytest.raises(
        ValueError, match=r"strategy\.merging must be the mean with strategy\.dp=gaussian, .* got Median"
    ):
        Synchronous(name="x", outer=SGD(), merging=Median(), dp=dp)
