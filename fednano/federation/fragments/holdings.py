"""Which version of each fragment every client holds, and what it has trained since."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fednano.federation.fragments.grace import Averages
from fednano.training.streaming import StreamTask


@dataclass(kw_only=True)
class Held:
    """What one client holds, by fragment: the `versions`, and the tokens and steps since it submitted each last.

    `last` is the fragment that it was asked to submit last.
    """

    versions: list[int]
    tokens: list[int]
    steps: list[int]
    last: int


@dataclass(kw_only=True)
class Holdings:
    """What the clients of a federation hold; part of every checkpoint.

    Args:
        versions: of each fragment of the global model: the version of the model that its last merge made.
        held: by client. One that is missing holds nothing, and begins anew from the whole global model.
        soiled: those that have to forget their optimizer's state too, since it may hold overlapped steps that no task
            asked for.
        averages: what the grace of a merge follows.
    """

    versions: list[int]
    held: dict[str, Held] = field(default_factory=dict)
    soiled: list[str] = field(default_factory=list)
    averages: Averages = field(default_factory=Averages)

    @classmethod
    def of(cls, fragments: int, record: Mapping[str, Any]) -> "Holdings":
        """Those at the start of a run, or in a checkpoint's record."""
        if not record:
            return cls(versions=[0] * fragments)
        held = {client: Held(**lists) for client, lists in record["held"].items()}
        averages = Averages(**record["averages"])
        return cls(versions=list(record["versions"]), held=held, soiled=list(record["soiled"]), averages=averages)

    def record(self) -> dict[str, Any]:
        """The inverse of `of`, for JSON."""
        return asdict(self)

    def give(self, client: str, due: int, checked: bool) -> StreamTask:
        """What a client's next task brings: the fragments that it lacks; it holds them from then on.

        With `checked`, the client is to make sure that it holds what is noted here.
        """
        count, new = len(self.versions), tuple(self.versions)
        held = self.held.get(client)
        if held is None:
            self.held[client] = Held(versions=list(new), tokens=[0] * count, steps=[0] * count, last=due)
            if forgets := client in self.soiled:
                self.soiled.remove(client)
            return StreamTask(due=due, sent=tuple(range(count)), anew=True, forgets=forgets, gets=new)
        before = tuple(held.versions)
        sent = () if before == new else tuple([i for i in range(count) if before[i] != new[i]])
        held.versions, held.last = list(new), due
        return StreamTask(due=due, sent=sent, holds=before if checked else (), gets=new)

    def next(self, client: str, first: int) -> int:
        """The fragment that a client submits next, if it goes through them at its own pace; `first` if it begins."""
        held = self.held.get(client)
        return first if held is None else (held.last + 1) % len(self.versions)

    def trained(self, client: str, due: int, tokens: int, steps: int) -> tuple[int, int]:
        """Note the work of an accepted update; returns the (tokens, steps) that its fragment's Δ is of."""
        if (held := self.held.get(client)) is None:  # it begins anew already
            return tokens, steps
        held.tokens = [sum_ + tokens for sum_ in held.tokens]
        held.steps = [sum_ + steps for sum_ in held.steps]
        submitted = held.tokens[due], held.steps[due]
        held.tokens[due] = held.steps[due] = 0
        return submitted

    def forget(self, client: str, trained_on: bool = False) -> None:
        """Have a client begin anew: it is gone, or may have trained rows that were freed.

        `trained_on`: it may have taken overlapped steps on them.
        """
        self.held.pop(client, None)
        if trained_on and client not in self.soiled:
            self.soiled.append(client)
