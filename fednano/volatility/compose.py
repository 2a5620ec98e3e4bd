"""A profile composed of several: each for some of the clients, or all of them at once."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from fednano.core.randomness import named_seed
from fednano.volatility.availability import Availability, Window
from fednano.volatility.profiles import Profile
from fednano.volatility.speed import Speed, product

PATIENCE_S = 366 * 86400.0  # a longer time without a common window is an error


@dataclass(frozen=True)
class Compose(Profile):
    """Applies all parts to every client, or deals the parts to the clients in turn.

    Args:
        name: name in summaries.
        how: all: a client is up while all parts are, and its speed is the product of theirs; turn: each client follows
            one part.
        parts: profiles by name; the name also seeds the part's draws.
    """

    name: str
    how: Literal["all", "turn"]
    parts: dict[str, Profile]

    def __post_init__(self) -> None:
        if self.how not in ("all", "turn"):
            raise ValueError(f"volatility.how must be all or turn, got {self.how}; choose one of them")
        if not self.parts:
            raise ValueError(
                "volatility.parts must have at least one profile, got {}; add +volatility@volatility.parts.NAME=CHOICE"
            )
        for name, part in self.parts.items():
            if not isinstance(part, Profile):
                raise ValueError(
                    f"volatility.parts.{name} must be a profile, got {part}; choose one by "
                    f"volatility@volatility.parts.{name}=CHOICE"
                )

    @property
    def endless(self) -> bool:
        return all(part.endless for part in self.parts.values())

    @property
    def cycle_s(self) -> float:
        return min(part.cycle_s for part in self.parts.values())

    def availability(self, client: str, index: int, seed: int) -> Availability:
        drawn = [part.drawn(client, index, self._seed(seed, name)) for name, part in self._of(index).items()]
        first = min(drawn, key=lambda availability: availability.ends)
        return Availability(self._common(drawn, client), first.ends, first.beyond)

    def speed(self, client: str, index: int, seed: int) -> Speed:
        return product(
            [part.speed(client, index, self._seed(seed, name)) for name, part in self._of(index).items()],
        )

    @property
    def described(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(line for part in self.parts.values() for line in part.described))

    def foreseen(self, crashes: bool) -> "Compose":
        return replace(self, parts={name: part.foreseen(crashes) for name, part in self.parts.items()})

    def _of(self, index: int) -> dict[str, Profile]:
        """The parts of the client with this index."""
        if self.how == "all":
            return self.parts
        name = list(self.parts)[index % len(self.parts)]
        return {name: self.parts[name]}

    @staticmethod
    def _seed(seed: int, part: str) -> int:
        # Two parts of one kind must not come and go together.
        return named_seed(seed, "part", part)

    def _common(self, drawn: list[Availability], client: str) -> Iterator[Window]:
        t = since = 0.0
        while True:
            upcoming = [availability.upcoming(t) for availability in drawn]
            found = [window for window in upcoming if window is not None]
            if len(found) < len(drawn):
                return
            start = max(t, *(window.start for window in found))
            closing = min(found, key=lambda window: window.stop)
            if start < closing.stop:
                yield Window(start, closing.stop, closing.exit, closing.notice_s)
                since = closing.stop
            elif closing.stop - since > PATIENCE_S:
                raise ValueError(
                    f"volatility.parts must have common windows, but {', '.join(self.parts)} are not up together for a "
                    f"year from {since:g} s on, for {client}; change one of them"
                )
            t = closing.stop
