"""What nodes say in Redis, read into typed records with limits. Everyone with the password can write anything there."""

import hashlib
import logging
from math import isfinite, nan
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, structs

from fednano.coordination.store import NO_LEASE, Heartbeat
from fednano.core.inner_step import InnerStep

LONGEST = 4096  # bytes of a heartbeat or a step
COUNT_MOST = 2**53
FASTEST_S, SLOWEST_S = 1e-6, 86_400.0  # of an inner step

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Whole = Annotated[int, Meta(ge=0, le=COUNT_MOST)]


class _Heartbeat(Struct, frozen=True, kw_only=True):
    name: Name
    incarnation: Name
    ready: bool
    leaving: bool
    step_s: Annotated[float, Meta(ge=0.0, le=SLOWEST_S)]
    lease: Annotated[int, Meta(ge=NO_LEASE, le=COUNT_MOST)]


class _Step(Struct, frozen=True, kw_only=True):
    client: Name
    round: Whole
    step: Annotated[int, Meta(ge=1, le=COUNT_MOST)]
    steps: Whole
    loss: float | None  # None: not finite
    tokens: Whole


_HEARTBEAT, _STEP = msgspec.json.Decoder(_Heartbeat), msgspec.json.Decoder(_Step)


def heartbeat_of(said: Any, name: str) -> Heartbeat | None:
    """The heartbeat under a client's name; None if it is none."""
    told = _read(said, _HEARTBEAT)
    if told is None or told.name != name or 0.0 < told.step_s < FASTEST_S:
        return None
    return Heartbeat(**structs.asdict(told))


def step_of(said: Any) -> InnerStep | None:
    """An inner step; None if it is none."""
    told = _read(said, _STEP)
    if told is None or not told.step <= told.steps:
        return None
    return InnerStep(**{**structs.asdict(told), "loss": nan if told.loss is None else told.loss})


def said_step(step: InnerStep) -> str:
    """The text that `step_of` reads."""
    return msgspec.json.encode(step).decode()


def count_of(said: Any) -> int | None:
    """A whole number from 0 to `COUNT_MOST`; None for anything else."""
    text = str(said)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 17 and int(text) <= COUNT_MOST else None


def number_of(said: Any) -> float | None:
    """A finite number; None for anything else."""
    try:
        number = float(str(said))
    except ValueError:
        return None
    return number if isfinite(number) else None


def token_digest(token: str) -> str:
    """What Redis holds of a lease's token: who reads it there cannot submit under the lease."""
    return hashlib.sha256(token.encode()).hexdigest()


class Complaints:
    """Warnings about what cannot be read, one for each subject and no more than `most`."""

    def __init__(self, most: int = 100) -> None:
        self._most = most
        self._made: set[str] = set()

    def say(self, subject: str, what: str) -> None:
        """Warn that `what` was said under `subject`, which is not taken."""
        if subject not in self._made and len(self._made) < self._most:
            self._made.add(subject)
            logging.getLogger(__name__).warning("the coordination store holds %s in %r; it is not taken", what, subject)


def _read(said: Any, decoder: msgspec.json.Decoder[Any]) -> Any:
    if not isinstance(said, str) or len(said) > LONGEST:
        return None
    try:
        return decoder.decode(said)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
