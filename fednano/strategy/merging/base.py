"""The interface of merging, and an accumulator that keeps every update of a round."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol

from torch import Tensor

from fednano.core import tensors
from fednano.core.tensors import State
from fednano.strategy.base import Accumulator, Update


class Merge(Protocol):
    """How the updates of a round become one pseudo-gradient.

    Attributes:
        weighted: whether the weights of updates count.
        keeps: whether it keeps every update until the merge: four bytes per client and parameter.
    """

    weighted: ClassVar[bool]
    keeps: ClassVar[bool]

    @property
    def least(self) -> int:
        """The least number of updates that it can merge; a round with fewer is skipped."""

    @property
    def because(self) -> str:
        """The setting that `least` follows from, as KEY=VALUE."""

    def accumulator(self, like: State) -> Accumulator:
        """An accumulator whose result has the names and shapes of `like`, which is empty if nothing is trained."""


class KeptUpdate(NamedTuple):
    """An update with its tensors.

    Args:
        update: who trained it, with how many tokens and steps, and from which version.
        delta: Δ = θ_global − θ_local by the names of the parameters, each float32 of the parameter's shape; empty under
            `runtime.compute=analytic`.
    """

    update: Update
    delta: State


class KeepAll:
    """Implements `Accumulator`: keeps every update, and has `merge` merge them.

    `merge` gets the updates ordered by client, whatever order they arrived in, their tensors ordered as in `like`.
    """

    def __init__(self, like: State, merge: Callable[[Sequence[KeptUpdate]], State]) -> None:
        self._names = tuple(like)
        self._merge = merge
        self._kept: list[KeptUpdate] = []

    def add(self, delta: Mapping[str, Tensor], weight: float, update: Update) -> None:
        self._kept.append(KeptUpdate(update, {name: delta[name] for name in self._names}))

    def result(self) -> State:
        times = Counter(kept.update.client for kept in self._kept)

        def place(kept: KeptUpdate) -> tuple[str, str]:
            # A client that left and came back in one round may have two.
            client = kept.update.client
            return client, tensors.digest(kept.delta) if times[client] > 1 else ""

        return self._merge(sorted(self._kept, key=place))
