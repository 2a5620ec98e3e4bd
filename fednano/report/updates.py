"""Figures of the updates in each merge: their norms, how much they agree, and how stale they are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fednano.core.events import Event, RoundMerged, RoundSkipped, UpdateFolded
from fednano.core.packed import Packed


@dataclass(frozen=True, kw_only=True)
class Merged:
    """One merge.

    Args:
        round: its number.
        norm: of the merged update.
        mean_norm: the weighted mean of its updates' norms.
        cosine: the mean cosine between two of its updates; NaN if it cannot be known.
        staleness: the mean number of merges since its updates' base versions.
        stalest: the greatest.
    """

    round: int
    norm: float
    mean_norm: float
    cosine: float
    staleness: float
    stalest: int


def _merged(round_: int, norm: float, mean_norm: float, cosine: float, staleness: float, stalest: int) -> Merged:
    return Merged(
        round=round_, norm=norm, mean_norm=mean_norm, cosine=cosine, staleness=staleness, stalest=int(stalest)
    )


@dataclass(kw_only=True)
class MergedUpdates:
    """The figures of all merges, and the weight of each client; `add` takes events in the order of the event log."""

    merges: Packed[Merged] = field(default_factory=lambda: Packed(_merged, "qddddq"))
    weights: dict[str, float] = field(default_factory=dict)  # client → its shares of all merges, summed
    _held: dict[int, UpdateFolded] = field(default_factory=dict)  # by lease, until merged

    def add(self, event: Event) -> None:
        match event:
            case UpdateFolded():
                self._held[event.lease] = event
            case RoundMerged():
                updates = [self._held.pop(lease) for lease in event.leases if lease in self._held]
                if updates:
                    self._merge(event, updates)
            case RoundSkipped():
                for lease in [lease for lease, held in self._held.items() if held.round == event.round]:
                    del self._held[lease]

    def share(self, client: str) -> float:
        """The client's mean share of the weight of a merge."""
        return self.weights.get(client, 0.0) / len(self.merges) if len(self.merges) else 0.0

    def _merge(self, event: RoundMerged, updates: Sequence[UpdateFolded]) -> None:
        total = sum(update.weight for update in updates)
        shares = [update.weight / total for update in updates]
        for update, share in zip(updates, shares, strict=True):
            self.weights[update.client] = self.weights.get(update.client, 0.0) + share
        stale = [event.version - 1 - update.version for update in updates]
        parts = [share * update.norm for share, update in zip(shares, updates, strict=True)]
        alike = not any(stale) and len({update.fragment for update in updates}) == 1
        cosine = mean_cosine(event.norm, parts) if alike else math.nan
        self.merges.add(event.round, event.norm, sum(parts), cosine, sum(stale) / len(stale), max(0, *stale))


def mean_cosine(norm: float, parts: Sequence[float]) -> float:
    """The mean cosine between two vectors of a sum, weighted by the products of their norms; NaN for fewer than two.

    Of the sum only its `norm` is needed, and of the vectors theirs, the `parts`, since
    ‖Σ vᵢ‖² = Σ ‖vᵢ‖² + Σ_{i≠j} ‖vᵢ‖‖vⱼ‖ cos(vᵢ, vⱼ).
    """
    squares = sum(part * part for part in parts)
    products = sum(parts) ** 2 - squares
    if len(parts) < 2 or not products > 0.0:
        return math.nan
    return (norm * norm - squares) / products
