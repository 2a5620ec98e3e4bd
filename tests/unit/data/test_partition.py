"""Every row goes to exactly one pool, whatever the sources look like."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fednano.data.partition import BySource, Dirichlet, Iid, Partition, Pools, RowIds, Sources, dealt


def sizes(pools: Pools) -> list[int]:
    return [len(pools.rows[pool]) for pool in pools.of_client]


@settings(max_examples=200, deadline=None)
@given(
    partition=st.sampled_from([Iid(), BySource(), Dirichlet(0.001), Dirichlet(0.3), Dirichlet(1000.0)]),
    sources=st.lists(st.integers(0, 6), min_size=1, max_size=200),
    clients=st.integers(1, 40),
    seed=st.integers(-(2**63), 2**63 - 1),
)
def test_every_row_is_in_exactly_one_pool(partition: Partition, sources: list[int], clients: int, seed: int) -> None:
    codes = np.array(sources, dtype=np.int32)
    if clients > len(sources):
        with pytest.raises(ValueError, match=f"clients must be <= {len(sources)}, .* got {clients}; use"):
            partition.deal(codes, 7, clients, seed)
        return
    pools = partition.deal(codes, 7, clients, seed)
    assert sorted(row for rows in pools.rows for row in rows) == list(range(len(sources)))
    assert all(len(rows) for rows in pools.rows)
    assert all(list(rows) == sorted(rows) for rows in pools.rows)
    assert len(pools.of_client) == clients
    assert set(pools.of_client) == set(range(len(pools.rows)))


@dataclass
class Dealing:
    """Returns what it is given."""

    pools: Any

    def deal(self, sources: Sources, n_sources: int, clients: int, seed: int) -> Pools:
        return self.pools  # type: ignore[no-any-return]


def rows(*ids: float) -> RowIds:
    return np.array(ids, np.int64)


@pytest.mark.parametrize(
    ("pools", "says"),
    [
        (None, "NoneType in place of Pools"),
        (Pools((rows(0, 1, 2), rows(3)), (0,)), r"of_client=\[0\] for 2 clients and 2 pools"),
        (Pools((rows(0, 1, 2), rows(3)), (0, 2)), r"of_client=\[0, 2\] for 2 clients and 2 pools"),
        (Pools((rows(0, 1, 2, 3), rows()), (0, 1)), "pool 1 that is no"),
        (Pools((rows(0, 1), rows(3)), (0, 1)), "row 2 in 0 pools"),
        (Pools((rows(0, 1, 2), rows(2, 3)), (0, 1)), "row 2 in 2 pools"),
        (Pools((rows(0, 1, 1), rows(2, 3)), (0, 1)), "pool 0 that is no ascending array"),
        (Pools((rows(0, 1, 2), rows(4)), (0, 1)), "pool 1 that is no ascending array of row numbers below 4"),
        (Pools((rows(0, 1), rows(-1, 2, 3)), (0, 1)), "pool 1 that is no"),
        (Pools((np.array([0.0, 1.0]), rows(2, 3)), (0, 1)), "pool 0 that is no"),  # type: ignore[arg-type]
        (Pools((np.zeros((1, 1), np.int64), rows(1, 2, 3)), (0, 1)), "pool 0 that is no"),
    ],
)
def test_what_a_partition_deals_is_checked(pools: Any, says: str) -> None:
    with pytest.raises(ValueError, match=f"^partition must deal every row to one pool, got {says}.* from Dealing; "):
        dealt(Dealing(pools), np.zeros(4, np.int32), 1, 2, 0)
    sound = Pools((rows(0, 2), range(1, 4, 2)), (0, 1))
    assert dealt(Dealing(sound), np.zeros(4, np.int32), 1, 2, 0) is sound


def test_iid_is_one_pool() -> None:
    assert Iid().deal(np.zeros(9, np.int32), 1, 3, 0) == Pools((range(9),), (0, 0, 0))


def test_whole_sources_go_to_the_poorest_client() -> None:
    codes = np.repeat(np.arange(5), [50, 30, 30, 20, 10])
    pools = BySource().deal(codes, 5, 3, 0)
    assert sizes(pools) == [50, 50, 40]
    for code in range(5):
        holders = [client for client in range(3) if code in codes[pools.rows[client]]]
        assert len(holders) == 1


def test_more_clients_than_sources_split_the_large_ones() -> None:
    codes = np.repeat(np.arange(3), [90, 30, 0])
    pools = BySource().deal(codes, 3, 4, 0)
    assert sizes(pools) == [30, 30, 30, 30]
    assert all(len(set(codes[rows])) == 1 for rows in pools.rows)


def test_alpha_says_how_uneven_clients_are() -> None:
    codes = np.tile(np.arange(8), 1000)

    def largest_share(alpha: float) -> float:
        pools = Dirichlet(alpha).deal(codes, 8, 4, 3)
        counts = np.array([np.bincount(codes[rows], minlength=8) for rows in pools.rows])
        return float((counts / counts.sum(axis=0)).max(axis=0).mean())

    assert largest_share(1000.0) < 0.3
    assert largest_share(0.1) > 0.6


def test_dirichlet_follows_its_seed() -> None:
    codes = np.tile(np.arange(4), 100)
    first, again, other = (Dirichlet(0.5).deal(codes, 4, 3, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first.rows, again.rows, strict=True))
    assert sizes(first) != sizes(other)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf"), "much"])
def test_alpha_is_checked(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"^partition.alpha must be a number >= 0.001, got .*; set "):
        Dirichlet(alpha)
