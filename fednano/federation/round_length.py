"""Round lengths in steps per client, in seconds, or in tokens of all clients together."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


class Pace(Protocol):
    """What a client adds to a round's length: seconds per inner step and of both transfers."""

    @property
    def step_s(self) -> float: ...

    @property
    def transfers_s(self) -> float: ...

    def duration(self, steps: int) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """The `round` choice.

    Args:
        until: what ends a round. steps: each client takes H steps. seconds: each client trains for that long and
            submits what it has done. tokens: the clients train, each at its speed, until they have about that many
            tokens together.
        seconds: seconds of the run's clock from the start of a round until its updates are in; only with
            until=seconds.
        tokens: tokens of a round, of all clients together; only with until=tokens.
        elastic: whether the only client that is up trains without rounds until another arrives, and submits then
            (single-client mode).
        alone: in single-client mode, the client submits after this many rounds' worth of steps at the latest; a crash
            loses no more than that.
        alone_merge: how that update is merged. outer: by an outer step, like any update. adopt: its weights become
            the global ones and the outer optimizer's state stays, so that single-client mode equals training without
            rounds.
        overlap: most overlapped steps that a client takes on the next round's rows while its update and the next
            weights travel; only with until=steps.
        local_steps: the inner steps of a client; a choice only with until=steps. fixed: H of each. dynamic: H of
            the fastest, fewer of the others in proportion to their speed, so that all end at about the same time
            (Liu et al. 2024, 2401.09135).
    """

    until: Literal["steps", "seconds", "tokens"] = "steps"
    seconds: float | None = None
    tokens: int | None = None
    elastic: bool = False
    alone: int = 10
    alone_merge: Literal["outer", "adopt"] = "outer"
    overlap: int = 0
    local_steps: Literal["fixed", "dynamic"] = "fixed"

    def __post_init__(self) -> None:
        if self.until not in ("steps", "seconds", "tokens"):
            raise ValueError(f"round.until must be steps, seconds or tokens, got {self.until}; use one of them")
        for key in ("seconds", "tokens"):
            value = getattr(self, key)
            if self.until == key and not (value is not None and 0 < value < math.inf):
                raise ValueError(
                    f"round.{key} must be > 0 and finite under round.until={key}, got {value}; "
                    "use such a number, or round.until=steps"
                )
            if self.until != key and value is not None:
                raise ValueError(
                    f"round.{key} must be null under round.until={self.until}, got {value}; "
                    f"use null, or round.until={key}"
                )
        if self.alone < 1:
            raise ValueError(f"round.alone must be >= 1, got {self.alone}; use 1 or more, or round.elastic=false")
        if self.alone_merge not in ("outer", "adopt"):
            raise ValueError(f"round.alone_merge must be outer or adopt, got {self.alone_merge}; use one of them")
        if self.local_steps not in ("fixed", "dynamic"):
            raise ValueError(f"round.local_steps must be fixed or dynamic, got {self.local_steps}; use one of them")
        if self.local_steps == "dynamic" and self.until != "steps":
            raise ValueError(
                f"round.local_steps must be fixed under round.until={self.until}, which gives faster clients more "
                "steps already, got dynamic; use round.local_steps=fixed or round.until=steps"
            )
        self._check_overlap()

    def _check_overlap(self) -> None:
        if self.overlap < 0:
            raise ValueError(f"round.overlap must be >= 0 steps, got {self.overlap}; use 0 or more")
        if self.overlap and self.until != "steps":
            raise ValueError(
                f"round.overlap must be 0 under round.until={self.until}, got {self.overlap}; use round.overlap=0 or "
                "round.until=steps"
            )
        if self.overlap and self.elastic and self.alone_merge == "adopt":
            raise ValueError(
                "round.overlap must be 0 under round.elastic=true with round.alone_merge=adopt, which replaces the "
                f"weights it continues from, got {self.overlap}; use round.alone_merge=outer or round.overlap=0"
            )

    def check(self, paces: Sequence[Pace], tokens_per_step: int) -> None:
        """Raise ValueError if a round is too short for one step."""
        slowest = max(pace.duration(1) for pace in paces)
        if self.seconds is not None and self.seconds < slowest:
            raise ValueError(
                f"round.seconds must be >= {slowest:g}, which the slowest client needs for one step and its transfers, "
                f"got {self.seconds:g}; use more, a smaller batch_size or a faster network"
            )
        if self.tokens is not None and self.tokens < tokens_per_step:
            raise ValueError(
                f"round.tokens must be >= {tokens_per_step}, the tokens of one step, got {self.tokens}; use more, or a "
                "smaller batch_size"
            )

    def duration(self, paces: Sequence[Pace], local_steps: int, tokens_per_step: int) -> float:
        """Planned seconds of a round with these clients, until the last of their updates is in."""
        if self.seconds is not None:
            return self.seconds
        if self.tokens is None:
            if self.local_steps == "fixed":
                return max(pace.duration(local_steps) for pace in paces)
            fastest_s = fastest(paces)
            return max(pace.duration(self.steps(pace.step_s, fastest_s, local_steps)) for pace in paces)
        # All clients end together, after the duration D for which Σ (D − transfers) / step = steps.
        steps = self.tokens / tokens_per_step
        steps += sum(pace.transfers_s / pace.step_s for pace in paces)
        together = steps / sum(1 / pace.step_s for pace in paces)
        return max(p.duration(max(1, round((together - p.transfers_s) / p.step_s))) for p in paces)

    def steps(self, step_s: float, fastest_s: float, local_steps: int) -> int:
        """H_c, at most H: the inner steps of a client whose steps take `step_s`, those of the fastest `fastest_s`.

        No client has none, however slow it is.
        """
        if self.local_steps == "fixed" or step_s <= fastest_s:
            return local_steps
        return max(1, math.floor(local_steps * fastest_s / step_s + 1e-9))

    def planned(
        self, paces: Sequence[Pace], local_steps: int, tokens_per_step: int, fastest_s: float | None = None
    ) -> int:
        """Tokens of a round whose clients never leave; `fastest_s` is the step of the fastest, by default of these."""
        if self.tokens is not None:
            return math.ceil(self.tokens / tokens_per_step) * tokens_per_step
        if self.seconds is None:
            fastest_s = fastest(paces) if fastest_s is None else fastest_s
            return sum(self.steps(pace.step_s, fastest_s, local_steps) for pace in paces) * tokens_per_step
        left_s = [(self.seconds - pace.transfers_s) / pace.step_s for pace in paces]
        return sum(math.floor(steps + 1e-9) for steps in left_s) * tokens_per_step

    def least(self, paces: Sequence[Pace], quorum: int, local_steps: int, tokens_per_step: int) -> tuple[int, float]:
        """(tokens of the smallest round, planned seconds of the shortest round) of such clients."""
        by_pace = sorted(paces, key=lambda pace: pace.duration(local_steps))
        tokens = self.planned(by_pace[-quorum:], local_steps, tokens_per_step, fastest(paces))
        shortest = min(self.duration(some, local_steps, tokens_per_step) for some in (by_pace[:quorum], by_pace))
        return tokens, shortest

    def missing(self, planned: int, tokens_per_step: int) -> float:
        """Steps that a round still lacks when `planned` are done or in progress; infinite unless it counts tokens."""
        return math.inf if self.tokens is None else math.ceil(self.tokens / tokens_per_step) - planned

    def central_steps(self, local_steps: int, total_steps: int, rounds: int) -> int:
        """Steps per round of the centralized baseline, which takes `total_steps` in all."""
        even = self.until == "steps" and self.local_steps == "fixed"
        return local_steps if even else max(1, -(-total_steps // rounds))


def fastest(paces: Iterable[Pace]) -> float:
    """Seconds of an inner step of the fastest client; infinite without clients."""
    return min((pace.step_s for pace in paces), default=math.inf)
