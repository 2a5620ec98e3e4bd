"""Which version of each fragment every client holds, and what it has trained since."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fednano.training.streaming import StreamTask


@dataclass(kw_only=True)
class Held:
    """What one client holds, by fragment: the `versions`, and the tokens and steps that it trained since each."""

    versions: list[int]
    tokens: list[int]
    steps: list[int]


@dataclass(kw_only=True)
class Holdings:
    """What the clients of a federation hold; part of every checkpoint.

    Args:
        versions: of each fragment of the global model: the version of the model that its last merge made.
        held: by client. One that is missing holds nothing, and begins anew from the whole global model.
    """

    versions: list[int]
    held: dict[str, Held] = field(default_factory=dict)

    @classmethod
    def of(cls, fragments: int, record: Mapping[str, Any]) -> "Holdings":
        """Those at the start of a run, or in a checkpoint's record."""
        if not record:
            return cls(versions=[0] * fragments)
        held = {client: Held(**lists) for client, lists in record["held"].items()}
        return cls(versions=list(record["versions"]), held=held)

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
            self.held[client] = Held(versions=list(new), tokens=[0] * count, steps=[0] * count)
            return StreamTask(due=due, sent=tuple(range(count)), anew=True, gets=new)
        before = tuple(held.versions)
        sent = tuple(i for i in range(count) if before[i] != new[i])
        for i in sent:
            held.tokens[i] = held.steps[i] = 0
        held.versions = list(new)
        return StreamTask(due=due, sent=sent, holds=before if checked else (), gets=new)

    def trained(self, client: str, due: int, tokens: int, steps: int) -> tuple[int, int]:
        """Note the work of an accepted update; returns the (tokens, steps) that its fragment's Δ is of."""
        held = self.held[client]
        held.tokens = [sum_ + tokens for sum_ in held.tokens]
        held.steps = [sum_ + steps for sum_ in held.steps]
        return held.tokens[due], held.steps[due]

    def forget(self, client: str) -> None:
        """Have a client begin anew: it is gone, or has trained rows that were freed."""
        self.held.pop(client, None)
