"""How long rounds are: so many steps each, so many seconds, or about so many tokens together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


class Pace(Protocol):
    """What a round's length depends on: seconds per inner step, and of the transfers before and after the work."""

    @property
    def step_s(self) -> float: ...

    @property
    def transfers_s(self) -> float: ...

    def duration(self, steps: int) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """The `round` choice.

    Args:
        until: steps, everyone takes H; seconds, everyone trains until so many have passed and submits what it did;
            tokens, everyone trains as long as it takes to have about so many of all together, by its speed.
        seconds: of the run's clock from a round's begin until its updates are in; where until is seconds.
        tokens: of a round; where until is tokens.
        elastic: whether a client that is up alone trains on without rounds until another one comes, and submits then.
        alone: how many rounds' steps it takes at most before it submits; a crash loses no more.
        alone_merge: what becomes of that. outer: an outer step, as for any update; adopt: its weights are the global
            ones, and the outer optimizer's state stays, so that to train alone is to train without rounds.
        overlap: inner steps that a client takes at most while its update travels and the next weights do, on rows of
            the next round; where until is steps.
    """

    until: Literal["steps", "seconds", "tokens"] = "steps"
    seconds: float | None = None
    tokens: int | None = None
    elastic: bool = False
    alone: int = 10
    alone_merge: Literal["outer", "adopt"] = "outer"
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.until not in ("steps", "seconds", "tokens"):
            raise ValueError(f"round.until must be steps, seconds or tokens, got {self.until}; choose one of them")
        for key in ("seconds", "tokens"):
            value = getattr(self, key)
            if self.until == key and not (value is not None and 0 < value < math.inf):
                raise ValueError(f"round.{key} must be > 0, got {value}; or set round.until=steps")
            if self.until != key and value is not None:
                raise ValueError(f"round.{key}={value} has no effect under round.until={self.until}; set it to null")
        if self.alone < 1:
            raise ValueError(f"round.alone must be >= 1, got {self.alone}; or set round.elastic=false")
        if self.alone_merge not in ("outer", "adopt"):
            raise ValueError(f"round.alone_merge must be outer or adopt, got {self.alone_merge}; choose one of them")
        self._check_overlap()

    def _check_overlap(self) -> None:
        if self.overlap < 0:
            raise ValueError(f"round.overlap must be >= 0, got {self.overlap}; 0 means no overlapped steps")
        if self.overlap and self.until != "steps":
            raise ValueError(
                f"round.overlap={self.overlap} needs rounds of steps, not round.until={self.until}; use 0 or "
                "round.until=steps"
            )
        if self.overlap and self.elastic and self.alone_merge == "adopt":
            raise ValueError(
                f"round.overlap={self.overlap} goes on from weights that round.alone_merge=adopt replaces under "
                "round.elastic=true; use round.alone_merge=outer or round.overlap=0"
            )

    def check(self, paces: Sequence[Pace], tokens_per_step: int) -> None:
        """Raise ValueError if a round is too short for a step."""
        slowest = max(pace.duration(1) for pace in paces)
        if self.seconds is not None and self.seconds < slowest:
            raise ValueError(
                f"round.seconds={self.seconds:g} is too short for a client that needs {slowest:g} s for one step and "
                "its transfers; use more, a smaller batch_size or a faster network"
            )
        if self.tokens is not None and self.tokens < tokens_per_step:
            raise ValueError(
                f"round.tokens={self.tokens} is less than the {tokens_per_step} of one step; use more, or a smaller "
                "batch_size"
            )

    def duration(self, paces: Sequence[Pace], local_steps: int, tokens_per_step: int) -> float:
        """Planned seconds of a round that these clients begin, until the last of their updates is in."""
        if self.seconds is not None:
            return self.seconds
        if self.tokens is None:
            return max(pace.duration(local_steps) for pace in paces)
        # All end together, after the D for which Σ (D − transfers) / step = steps.
        steps = self.tokens / tokens_per_step
        steps += sum(pace.transfers_s / pace.step_s for pace in paces)
        together = steps / sum(1 / pace.step_s for pace in paces)
        return max(p.duration(max(1, round((together - p.transfers_s) / p.step_s))) for p in paces)

    def planned(self, paces: Sequence[Pace], local_steps: int, tokens_per_step: int) -> int:
        """Tokens of a round of clients that never leave."""
        if self.tokens is not None:
            return math.ceil(self.tokens / tokens_per_step) * tokens_per_step
        if self.seconds is None:
            return len(paces) * local_steps * tokens_per_step
        left_s = [(self.seconds - pace.transfers_s) / pace.step_s for pace in paces]
        return sum(math.floor(steps + 1e-9) for steps in left_s) * tokens_per_step

    def least(self, paces: Sequence[Pace], quorum: int, local_steps: int, tokens_per_step: int) -> tuple[int, float]:
        """(tokens, planned seconds) of the smallest and of the shortest round that such clients make."""
        by_pace = sorted(paces, key=lambda pace: pace.duration(local_steps))
        tokens = self.planned(by_pace[-quorum:], local_steps, tokens_per_step)
        shortest = min(self.duration(some, local_steps, tokens_per_step) for some in (by_pace[:quorum], by_pace))
        return tokens, shortest

    def missing(self, planned: int, tokens_per_step: int) -> float:
        """Steps that a round still lacks when `planned` are done or under way; infinite where none are counted."""
        return math.inf if self.tokens is None else math.ceil(self.tokens / tokens_per_step) - planned

    def central_steps(self, local_steps: int, total_steps: int, rounds: int) -> int:
        """Steps between two ends of rounds of the centralized baseline, which takes `total_steps`."""
        return local_steps if self.until == "steps" else max(1, -(-total_steps // rounds))
