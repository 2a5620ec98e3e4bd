"""Ways of merging against hand-worked cases, the methods they reduce to, and any order of arrival."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fednano.core import tensors
from fednano.core.tensors import BLOCK, Lazy, State
from fednano.strategy.base import ServerState, Update
from fednano.strategy.merging.base import Merge
from fednano.strategy.merging.krum import Krum, squared_distances
from fednano.strategy.merging.mean import Mean
from fednano.strategy.merging.median import Median
from fednano.strategy.merging.radial import Radial, is_matrix
from fednano.strategy.merging.sorting import network
from fednano.strategy.merging.trimmed_mean import TrimmedMean
from fednano.strategy.outer.sgd import SGD
from fednano.strategy.synchronous import Synchronous

MATRIX = "blocks.0.mlp.c_fc.weight"


def update(client: str = "a", tokens: int = 100, steps: int = 5) -> Update:
    return Update(client=client, tokens=tokens, steps=steps, version=0, staleness=0)


def merged(
    merging: Merge, deltas: Sequence[State], weights: Sequence[float] = (), clients: Sequence[str] = ()
) -> State:
    accumulator = merging.accumulator(deltas[0])
    for i, delta in enumerate(deltas):
        accumulator.add(delta, weights[i] if weights else 1.0, update(clients[i] if clients else f"client_{i}"))
    return accumulator.result()


def each(*values: float) -> list[State]:
    """One update of a single number for each value."""
    return [{"w": torch.tensor([value])} for value in values]


def drawn(n: int, seed: int = 0, entries: int = 7) -> list[State]:
    draw = torch.Generator().manual_seed(seed)
    shapes = {"embedding.weight": (entries, 3), MATRIX: (4, entries), "resid_lambdas": (2,)}
    return [{name: torch.randn(shape, generator=draw) for name, shape in shapes.items()} for _ in range(n)]


def equal(a: State, b: State) -> bool:
    return tensors.digest(a) == tensors.digest(b)


ALL: list[Merge] = [
    Mean(),
    Radial(),
    Median(),
    TrimmedMean(0.25),
    TrimmedMean(0.4),
    Krum(0),
    Krum(1),
    Krum(1, 1),
    Krum(),
]


# Each by hand


def test_the_median_by_hand() -> None:
    assert merged(Median(), each(3.0, -1.0, 1e30))["w"].tolist() == [3.0]
    assert merged(Median(), each(3.0, -1.0, 1e30, 4.0))["w"].tolist() == [3.5]
    assert merged(Median(), each(3.0))["w"].tolist() == [3.0]


def test_the_trimmed_mean_by_hand() -> None:
    assert merged(TrimmedMean(0.25), each(1.0, 1e30, 2.0, -1e30))["w"].tolist() == [1.5]
    assert merged(TrimmedMean(0.25), each(5.0, 1.0, 1e30, 2.0, 3.0, -1e30, 4.0))["w"].tolist() == [3.0]  # one of seven
    assert merged(TrimmedMean(0.3), each(*range(10)))["w"].tolist() == [4.5]
    assert merged(TrimmedMean(0.1), each(*range(29), 1e6))["w"].item() == pytest.approx(14.5)  # 0.1 · 30 is 3
    assert merged(TrimmedMean(0.29), each(*[0.0] * 71, *[1e9] * 29))["w"].item() == 0.0  # 0.29 · 100 is just below 29


def test_krum_by_hand() -> None:
    """Of 0, 1, 3, 7 and 1000 with f = 1, scores add up the two closest: 1 + 9, 1 + 4, 4 + 9, 16 + 36, …."""
    updates = each(0.0, 1.0, 3.0, 7.0, 1000.0)
    assert Krum(1).chosen(updates) == [1, 0]
    assert merged(Krum(1), updates)["w"].tolist() == [0.5]
    assert merged(Krum(1, 1), updates)["w"].tolist() == [1.0]
    assert merged(Krum(1, 4), updates)["w"].tolist() == [2.75]


def test_krum_withstands_as_many_as_it_can_unless_told() -> None:
    for n, f in ((5, 1), (6, 1), (7, 2), (8, 2), (9, 3)):
        updates = each(*[value**1.5 for value in range(n)])
        assert Krum().chosen(updates) == Krum(f).chosen(updates)
        assert len(Krum().chosen(updates)) == n // 2


def test_equal_scores_are_resolved_by_client_in_any_order_of_arrival() -> None:
    """Of 0, 1 and 2 each has a closest one at distance 1; one client's two updates are told apart by their content."""
    for clients in ("abc", "aab"):
        results = {
            merged(Krum(0, 1), [each(value)[0] for value in order], (), [clients[value] for value in order])["w"].item()
            for order in itertools.permutations(range(3))
        }
        assert len(results) == 1
    assert merged(Krum(0, 1), each(2.0, 0.0, 1.0), (), "cab")["w"].item() == 0.0


def test_distances_are_exact_where_updates_are_almost_alike() -> None:
    """In float32, ‖a‖² + ‖b‖² − 2ab would say 0 here, or less."""
    base = torch.full((BLOCK + 3,), 1000.0)
    moved = base.clone()
    moved[-1] += 0.5
    assert squared_distances([{"w": base}, {"w": moved}]) == [[0.0, 0.25], [0.25, 0.0]]
    far = torch.tensor([4096.0, *[1.0] * 63])
    assert squared_distances([{"w": far}, {"w": torch.zeros(64)}])[0][1] == 2**24 + 63


def test_the_radial_mean_by_hand() -> None:
    """Lengths 1 and 3 with weights 3 and 1: (3 + 3) / 4 = 1.5; the directions add up to (3, 1) / √10."""
    updates = [{MATRIX: torch.tensor([[1.0, 0.0]]), "head.weight": torch.tensor([[1.0, 0.0]])}]
    updates += [{MATRIX: torch.tensor([[0.0, 3.0]]), "head.weight": torch.tensor([[0.0, 3.0]])}]
    result = merged(Radial(), updates, (3.0, 1.0))
    assert result[MATRIX][0].tolist() == pytest.approx([1.5 * 3 / math.sqrt(10), 1.5 / math.sqrt(10)])
    assert result["head.weight"][0].tolist() == [0.75, 0.75]


def test_radial_updates_without_a_direction_merge_to_zero() -> None:
    zero, there = torch.zeros(2, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert merged(Radial(), [{MATRIX: zero}, {MATRIX: zero}])[MATRIX].tolist() == zero.tolist()
    assert merged(Radial(), [{MATRIX: there}, {MATRIX: -there}])[MATRIX].tolist() == zero.tolist()
    half = merged(Radial(), [{MATRIX: there}, {MATRIX: zero}])[MATRIX]
    torch.testing.assert_close(half, there / 2)  # the length of 0 counts, its direction does not exist


def test_matrices_are_the_two_dimensional_tensors_inside_blocks() -> None:
    from fednano.model.arch import Arch
    from fednano.model.gpt import GPT, GPTConfig
    from fednano.optim.inner import MuonAdamW
    from fednano.optim.muon import Muon

    arch = Arch(name="x", value_embeddings=True, smear=True, backout=True)
    model = GPT(GPTConfig(vocab_size=300, sequence_len=8, layers=2, width=128, heads=1, kv_heads=1, arch=arch))
    found = {name for name, parameter in model.named_parameters() if is_matrix(name, parameter)}
    (muon,) = [part for part in MuonAdamW().build(model).parts if isinstance(part, Muon)]
    stepped = {id(parameter) for group in muon.param_groups for parameter in group["params"]}
    assert found == {name for name, parameter in model.named_parameters() if id(parameter) in stepped}
    assert not any(word in name for name in found for word in ("embedding", "head.", "lambda", "smear"))


# What they reduce to


@pytest.mark.parametrize("merging", [Radial(), Median(), TrimmedMean(0.25), Mean()], ids=repr)
def test_one_update_is_itself(merging: Merge) -> None:
    (alone,) = drawn(1)
    for name, tensor in merged(merging, [alone], (3.0,)).items():
        torch.testing.assert_close(tensor, alone[name], rtol=1e-7, atol=0.0)


def test_a_trimmed_mean_of_nothing_trimmed_is_the_mean() -> None:
    for name, tensor in merged(TrimmedMean(0.0), drawn(5)).items():
        torch.testing.assert_close(tensor, merged(Mean(), drawn(5))[name], rtol=1e-7, atol=0.0)


def test_a_trimmed_mean_with_all_but_the_middle_trimmed_is_the_median() -> None:
    assert equal(merged(TrimmedMean(0.4), drawn(5)), merged(Median(), drawn(5)))


def test_krum_that_averages_all_is_the_mean() -> None:
    assert equal(merged(Krum(0, 5), drawn(5)), merged(Mean(), drawn(5)))


def test_krum_leaves_broken_updates_out() -> None:
    updates = [*drawn(5), *({name: 100 * tensor for name, tensor in each.items()} for each in drawn(2, 1))]
    assert set(Krum(2).chosen(updates)) <= {0, 1, 2, 3, 4}
    assert len(Krum(2).chosen(updates)) == 3


def test_a_radial_mean_of_parallel_updates_is_the_mean() -> None:
    (base,) = drawn(1)
    updates = [{name: factor * tensor for name, tensor in base.items()} for factor in (0.5, 1.0, 3.0)]
    for name, tensor in merged(Radial(), updates, (2.0, 1.0, 5.0)).items():
        torch.testing.assert_close(tensor, merged(Mean(), updates, (2.0, 1.0, 5.0))[name], rtol=1e-6, atol=0.0)


def test_the_median_is_torchs() -> None:
    for n in (1, 2, 5, 6, 33):
        updates = drawn(n, n, BLOCK // 4 + 1)
        for name, tensor in merged(Median(), updates).items():
            stacked = torch.stack([each[name] for each in updates])
            torch.testing.assert_close(tensor, stacked.quantile(0.5, dim=0), rtol=1e-6, atol=1e-6)


# Order and form of arrival


@pytest.mark.parametrize("merging", ALL, ids=repr)
@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(6)), repeated=st.booleans())
def test_the_order_of_arrival_leaves_no_trace(merging: Merge, order: list[int], repeated: bool) -> None:
    """Not in a single bit, even if a client submits two updates in one round, and if some are alike."""
    updates, weights = drawn(6), [100.0, 77.0, 31.0, 100.0, 5.0, 64.0]
    updates[4] = {name: -tensor for name, tensor in updates[1].items()}
    updates[5] = {name: torch.zeros_like(tensor) for name, tensor in updates[1].items()}
    updates[5]["resid_lambdas"] *= -1.0  # −0
    clients = ["a", "b", "a", "b", "c", "c"] if repeated else list("abcdef")
    given_ = merged(merging, updates, weights, clients)
    again = [[things[i] for i in order] for things in (updates, weights, clients)]
    assert equal(merged(merging, *again), given_)  # type: ignore[arg-type]


@pytest.mark.parametrize("merging", ALL, ids=repr)
def test_updates_that_are_decoded_block_by_block_merge_alike(merging: Merge) -> None:
    updates = drawn(6, 3, BLOCK // 2)
    lazy = [Lazy(tensors.shapes(delta), lambda delta=delta: tensors.blocks(delta)) for delta in updates]
    assert equal(merged(merging, lazy), merged(merging, updates))  # type: ignore[arg-type]


@pytest.mark.parametrize("merging", ALL, ids=repr)
def test_rounds_without_tensors_merge_to_nothing(merging: Merge) -> None:
    """As in a run that is simulated without a model."""
    assert merged(merging, [{} for _ in range(6)]) == {}


@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_the_network_sorts(values: list[float]) -> None:
    rows = list(values)
    for low, high in network(len(rows)):
        assert low < high
        rows[low], rows[high] = min(rows[low], rows[high]), max(rows[low], rows[high])
    assert rows == sorted(values)


# What cannot work


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: TrimmedMean(0.5), r"strategy\.merging\.share must be >= 0 and < 0\.5, got 0\.5; use less"),
        (lambda: TrimmedMean(-0.1), r"strategy\.merging\.share must be .*, got -0\.1"),
        (lambda: Krum(-1), r"strategy\.merging\.f must be >= 0, got -1"),
        (
            lambda: Synchronous(name="x", outer=object()),
            r"strategy\.outer must have step, got object without step; add",
        ),
        (lambda: Krum(1, 0), r"strategy\.merging\.m must be >= 1, got 0"),
        (
            lambda: Synchronous(name="x", outer=SGD(), merging=Krum(), weighting="tokens"),
            r"strategy\.weighting must be uniform with strategy\.merging=Krum, which takes no weights, got tokens",
        ),
    ],
)
def test_bad_settings_name_key_and_value(make: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("merging", "least"),
    [(Mean(), 1), (Radial(), 1), (Median(), 3), (TrimmedMean(0.0), 1), (TrimmedMean(0.25), 4), (TrimmedMean(0.2), 5),
     (TrimmedMean(0.1), 10), (TrimmedMean(0.4), 3), (Krum(0), 3), (Krum(1), 5), (Krum(2), 7), (Krum(1, 9), 12),
     (Krum(0, 9), 9), (Krum(), 5), (Krum(None, 9), 18)],
    ids=repr,
)  # fmt: skip
def test_the_quorum_is_raised_to_what_the_merging_needs(merging: Merge, least: int) -> None:
    assert Synchronous(name="x", outer=SGD(), merging=merging).quorum == least
    assert Synchronous(name="x", outer=SGD(), merging=merging, quorum=20).quorum == 20
    assert merging.least == least


def test_the_least_trimmed_mean_leaves_an_update_out() -> None:
    for share in (k / 100 for k in range(1, 50)):
        least = TrimmedMean(share).least
        values = [1e30, *[0.0] * (least - 1)]
        assert merged(TrimmedMean(share), each(*values))["w"].item() == 0.0, share
        assert merged(TrimmedMean(share), each(*values[:-1]))["w"].item() > 0.0, share


def test_weightings() -> None:
    seen = update(tokens=600, steps=4)

    def weight(**keys: object) -> float:
        return Synchronous(name="x", outer=SGD(), **keys).weight(seen)  # type: ignore[arg-type]

    assert weight() == weight(weighting="tokens") == 600.0
    assert weight(weighting="uniform") == 1.0
    assert weight(weighting="tokens_squared_per_step") == 600 * 150
    assert weight(merging=Median()) == weight(merging=Median(), weighting="uniform") == 1.0


def test_a_robust_merge_feeds_the_outer_step() -> None:
    strategy = Synchronous(name="x", outer=SGD(0.5), merging=Median())
    state = ServerState(weights={"w": torch.tensor([10.0])})
    accumulator = strategy.accumulator(state)
    for name, delta in zip("abc", each(2.0, -1e30, 4.0), strict=True):
        accumulator.add(delta, strategy.weight(update(name)), update(name))
    after = strategy.merge(state, accumulator.result())
    assert (after.weights["w"].item(), after.version) == (9.0, 1)
