"""A partition: clients with more and fewer rows."""

from dataclasses import dataclass

import numpy as np

from fednano.data.partition import Pools, Sources


@dataclass(frozen=True, kw_only=True)
class Uneven:
    """Rows at random, client i having `ratio` times as many as client i + 1.

    Args:
        ratio: 1 gives all clients equally many.
    """

    ratio: float = 2.0

    def __post_init__(self) -> None:
        if not 1 <= self.ratio <= 100:
            raise ValueError(f"partition.ratio must be from 1 to 100, got {self.ratio}; try 2")

    def deal(self, sources: Sources, n_sources: int, clients: int, seed: int) -> Pools:
        shares = self.ratio ** -np.arange(clients, dtype=float)
        ends = np.cumsum(shares / shares.sum()) * (len(sources) - clients)  # each has one row at least
        cuts = ends[:-1].astype(int) + np.arange(1, clients)
        rows = np.random.default_rng([seed % 2**64, 7]).permutation(len(sources))
        pools = [np.sort(part) for part in np.split(rows, cuts)]
        return Pools(rows=tuple(pools), of_client=tuple(range(clients)))
