"""When a strategy merges: what a round waits for, and what becomes of updates that come later."""

import math
from dataclasses import dataclass
from typing import Literal, Protocol, get_args, runtime_checkable

Late = Literal["refuse", "next"]


@runtime_checkable
class Paced(Protocol):
    """A strategy with keys of its own for when it merges; one without them has the defaults of `Pacing`."""

    grace: float | None
    late: Late
    max_staleness: int | None
    waits: bool


@dataclass(frozen=True, kw_only=True)
class Pacing:
    """When updates are merged.

    Args:
        grace: seconds on the run's clock that a round waits for further updates once it has its quorum; None: until all
            have submitted, or the round ends.
        late: what becomes of an update that is still missing then. refuse: its rows are freed. next: it is merged into
            the round in which it arrives, and its client gets no new work until then.
        max_staleness: how many versions an update's base may be behind the global model; with more, the update is
            refused and its rows are freed. Usually about clients ÷ quorum. None: any number.
        staleness_discount: whether an update that is s versions behind is multiplied by 1/√(1 + s), as in FedBuff.
        waits: whether a client that has submitted waits for the merge. False, with late=next: it gets new work at once,
            from the newest version, as in FedBuff (Nguyen et al. 2022, 2106.06639).
    """

    grace: float | None = None
    late: Late = "refuse"
    max_staleness: int | None = None
    staleness_discount: bool = True
    waits: bool = True

    def __post_init__(self) -> None:
        if self.grace is not None and not 0.0 <= self.grace < math.inf:
            raise ValueError(f"strategy.grace must be >= 0 and finite, got {self.grace}; use seconds, or null")
        if self.late not in get_args(Late):
            raise ValueError(f"strategy.late must be {' or '.join(get_args(Late))}, got {self.late}; use one of them")
        if self.max_staleness is not None and self.max_staleness < 1:
            raise ValueError(f"strategy.max_staleness must be >= 1, got {self.max_staleness}; use 1 or more, or null")
        if self.max_staleness is not None and not self.carries:
            raise ValueError(
                f"strategy.max_staleness must be null with strategy.late={self.late}, got {self.max_staleness}; no "
                "update outlives its round there, so use null, or strategy.late=next"
            )
        if not self.waits and (self.grace is None or not self.carries):
            raise ValueError(
                f"strategy.waits must be true unless strategy.late=next and strategy.grace is a number, got false with "
                f"late={self.late} and grace={'null' if self.grace is None else self.grace}; such a round would never "
                "end, so set strategy.waits=true, or strategy.late=next strategy.grace=0"
            )

    @property
    def carries(self) -> bool:
        """Whether work in progress outlives a merge."""
        return self.late == "next"

    def oldest(self, version: int) -> int:
        """The oldest version that a task may start from when the global model is at `version`."""
        return 0 if self.max_staleness is None else version - self.max_staleness

    @classmethod
    def of(cls, strategy: object) -> "Pacing":
        if not isinstance(strategy, Paced):
            return cls()
        return cls(
            grace=strategy.grace,
            late=strategy.late,
            max_staleness=strategy.max_staleness,
            staleness_discount=getattr(strategy, "staleness_discount", True),
            waits=strategy.waits,
        )

    def discount(self, staleness: int) -> float:
        """The factor on an update that is this many versions behind."""
        return 1.0 / math.sqrt(1 + staleness) if self.staleness_discount else 1.0
