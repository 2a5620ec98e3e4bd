"""The adaptive grace window: how long a merge can wait for further updates before clients have to wait for it."""

from dataclasses import dataclass

KEPT = 0.9  # share of an average that stays when a new value comes


@dataclass(kw_only=True)
class Averages:
    """Moving averages of a federation, in seconds on the run's clock; None before the first value.

    Args:
        step_s: of an inner step.
        quorum_s: from the start of a round until it has its quorum.
        sync_s: of the transfers of a task and its update.
    """

    step_s: float | None = None
    quorum_s: float | None = None
    sync_s: float | None = None

    def trained(self, step_s: float, sync_s: float) -> None:
        """Note an accepted update."""
        self.step_s, self.sync_s = _followed(self.step_s, step_s), _followed(self.sync_s, sync_s)

    def reached(self, quorum_s: float) -> None:
        """Note that a round had its quorum after so many seconds."""
        self.quorum_s = _followed(self.quorum_s, quorum_s)

    def window(self, gamma: float, steps: int, most: float) -> float:
        """γ(τ·ξ_step − ξ_quorum − ξ_sync), at least 0 and at most `most`; 0 before there are averages.

        While a merge waits, clients train τ = `steps` steps at most, so what they need for these is to spare. Source:
        Decoupled DiLoCo (2604.21428).
        """
        if self.step_s is None or self.quorum_s is None or self.sync_s is None:
            return 0.0
        return min(most, max(0.0, gamma * (steps * self.step_s - self.quorum_s - self.sync_s)))


def _followed(average: float | None, value: float) -> float:
    return value if average is None else KEPT * average + (1.0 - KEPT) * value
