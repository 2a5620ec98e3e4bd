"""Partitions of the training rows among clients: one shared pool, by source, or by Dirichlet proportions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fednano.config.errors import shown

Sources = npt.NDArray[np.integer]  # (rows,) the source code of every training row
RowIds = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pools:
    """Disjoint sets of rows that together hold all training rows; client i reads from `rows[of_client[i]]`.

    Args:
        rows: the pools, each (rows of the pool,) int64 of row ids, ascending, or a range of them; none is empty.
        of_client: for each client the index of its pool; clients with the same index share one.
    """

    rows: tuple[RowIds | range, ...]
    of_client: tuple[int, ...]


class Partition(Protocol):
    def deal(self, sources: Sources, n_sources: int, clients: int, seed: int) -> Pools:
        """Deal all rows to `clients`, a number. `sources` is (rows,) int: the source of each row, below `n_sources`.

        No pool is empty. The same arguments give the same pools. Raises ValueError if there are more clients than rows.
        """


@dataclass(frozen=True)
class Iid:
    """One pool that all clients share."""

    def deal(self, sources: Sources, n_sources: int, clients: int, seed: int) -> Pools:
        _require_enough(len(sources), clients)
        return Pools((range(len(sources)),), (0,) * clients)


@dataclass(frozen=True)
class BySource:
    """Each source goes to one client as a whole: the largest first, each to the client with the fewest rows so far.

    If there are more clients than sources, sources are split so that the clients have about equally many rows.
    """

    def deal(self, sources: Sources, n_sources: int, clients: int, seed: int) -> Pools:
        _require_enough(len(sources), clients)
        rows = [ids for ids in _rows_of_sources(sources, n_sources) if len(ids)]
        rows.sort(key=len, reverse=True)
        if clients >= len(rows):
            shares = _shares([len(ids) for ids in rows], clients)
            split = [part for ids, n in zip(rows, shares, strict=True) for part in np.array_split(ids, n)]
            return _one_each(split)
        hands: list[list[RowIds]] = [[] for _ in range(clients)]
        held = [0] * clients
        for ids in rows:
            poorest = held.index(min(held))
            hands[poorest].append(ids)
            held[poorest] += len(ids)
        return _one_each([np.concatenate(hand) for hand in hands])


@dataclass(frozen=True)
class Dirichlet:
    """Every source is split among the clients in proportions drawn from Dirichlet(alpha, …, alpha).

    A large alpha makes clients alike; a small one gives each source to few clients (Hsu et al. 2019, arXiv
    1909.06335). A client that would get nothing gets one row of the client with the most.

    Args:
        alpha: the distribution's parameter; the smaller, the less alike are the clients.
    """

    alpha: float

    def __post_init__(self) -> None:
        if not isinstance(self.alpha, float | int) or not 1e-3 <= self.alpha < math.inf:
            raise ValueError(
                f"partition.alpha must be a number >= 0.001, got {self.alpha!r}; "
                "set 0.1 for very uneven clients, 100 for almost equal ones"
            )

    def deal(self, sources: Sources, n_sources: int, clients: int, seed: int) -> Pools:
        _require_enough(len(sources), clients)
        generator = np.random.default_rng([seed % (1 << 64), *b"partition"])  # negative seeds too
        hands: list[list[RowIds]] = [[] for _ in range(clients)]
        for ids in _rows_of_sources(sources, n_sources):
            proportions = generator.dirichlet(np.full(clients, self.alpha))
            cuts = np.rint(np.cumsum(proportions[:-1]) * len(ids)).astype(np.int64)
            for hand, part in zip(hands, np.split(ids, cuts), strict=True):
                hand.append(part)
        pools = [np.concatenate(hand) for hand in hands]
        for client in range(clients):
            if not len(pools[client]):
                richest = max(range(clients), key=lambda index: len(pools[index]))
                pools[client], pools[richest] = pools[richest][-1:], pools[richest][:-1]
        return _one_each(pools)


def dealt(partition: Partition, sources: Sources, n_sources: int, clients: int, seed: int) -> Pools:
    """What a partition deals, checked. Raises ValueError if it is not what `Partition.deal` must return."""
    pools = partition.deal(sources, n_sources, clients, seed)
    if wrong := _wrong(pools, len(sources), clients):
        name = type(partition).__name__
        raise ValueError(f"partition must deal every row to one pool, got {wrong} from {name}; correct its deal()")
    return pools


def _wrong(pools: Any, rows: int, clients: int) -> str | None:
    """What of these pools is not as it must be."""
    if not isinstance(pools, Pools):
        return f"{type(pools).__name__} in place of Pools"
    if len(pools.of_client) != clients or not set(pools.of_client) <= set(range(len(pools.rows))):
        return f"of_client={shown(list(pools.of_client))} for {clients} clients and {len(pools.rows)} pools"
    if len(pools.rows) == 1 and isinstance(pools.rows[0], range) and pools.rows[0] == range(rows):
        return None  # without an array of so many rows
    times = np.zeros(rows, np.int32)
    for index, pool in enumerate(pools.rows):
        if not _is_ascending(ids := np.asarray(pool), rows):
            return f"pool {index} that is no ascending array of row numbers below {rows:,}"
        times[ids] += 1
    wrong = np.flatnonzero(times != 1)
    return f"row {wrong[0]:,} in {times[wrong[0]]} pools" if wrong.size else None


def _is_ascending(ids: npt.NDArray[Any], rows: int) -> bool:
    """Whether there is at least one number, and they ascend from 0 or more to below `rows`."""
    whole = ids.ndim == 1 and ids.size > 0 and ids.dtype.kind in "iu"
    return whole and ids[0] >= 0 and ids[-1] < rows and not (np.diff(ids) <= 0).any()


def _require_enough(rows: int, clients: int) -> None:
    if clients > rows:
        raise ValueError(f"clients must be <= {rows}, the training rows, got {clients}; use fewer clients or more text")


def _rows_of_sources(sources: Sources, n_sources: int) -> list[RowIds]:
    """The row ids of each source, ascending."""
    order = np.argsort(sources, kind="stable").astype(np.int64)
    counts = np.bincount(sources, minlength=n_sources)
    return np.split(order, np.cumsum(counts)[:-1])


def _shares(sizes: Sequence[int], clients: int) -> list[int]:
    """Number of clients per source: one each; every further one goes to the source with the most rows per client."""
    shares = [1] * len(sizes)
    for _ in range(clients - len(sizes)):
        crowded = max(range(len(sizes)), key=lambda index: sizes[index] / shares[index])
        shares[crowded] += 1
    return shares


def _one_each(pools: Sequence[RowIds]) -> Pools:
    return Pools(tuple(np.sort(pool) for pool in pools), tuple(range(len(pools))))
