"""Streaming: which fragment of the model each merge synchronises, and how a client takes in what was merged."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from fednano.core.ranges import Range
from fednano.core.tensors import Shapes, State

V = TypeVar("V")

_BLOCK = re.compile(r"blocks\.(\d+)\.")


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """Each merge synchronises one of P fragments, in turn; clients keep their own weights meanwhile.

    Round r synchronises fragment r mod P, so every fragment is synchronised after P rounds, H = P · `local_steps` inner
    steps. A client submits what it has changed of that fragment since it took it in, or since it submitted it last,
    and trains on. With its next task come the fragments that have changed; after τ further steps it takes them in.

    Source: Streaming DiLoCo (Douillard et al. 2025, 2501.18512). With P = 1 and τ = 0 it is DiLoCo.

    Args:
        fragments: P.
        delay: τ, steps that a client trains on while its fragment travels and is merged. None: until its next task
            comes, at most those of a round.
        alpha: how a client takes a merged fragment in. None: θ ← θ_global + what it has changed and not submitted, so
            that nothing is lost or counted twice. A number, as in the paper: θ ← αθ + (1 − α)θ_global, which drops what
            it has trained of the fragment during the delay, or a share of it.
        gamma: γ: a merge that has its quorum waits for γ times the time that clients have before they would wait for
            it, at most `strategy.grace`; None: it waits for `strategy.grace`.
    """

    fragments: Annotated[int, Range(ge=1)] = 2
    delay: int | None = 0
    alpha: Annotated[float, Range(ge=0, le=1)] | None = None
    gamma: Annotated[float, Range(ge=0, le=math.inf)] | None = None

    def __post_init__(self) -> None:
        if self.fragments < 1:
            raise ValueError(f"strategy.stream.fragments must be >= 1, got {self.fragments}; use 1 or more")
        if self.delay is not None and self.delay < 0:
            raise ValueError(f"strategy.stream.delay must be >= 0 steps, got {self.delay}; use 0 or more, or null")
        if self.alpha is not None and not 0.0 <= self.alpha <= 1.0:
            raise ValueError(
                f"strategy.stream.alpha must be from 0 to 1, got {self.alpha}; use a share such as 0.5, or null"
            )
        if self.alpha is not None and self.delay is None:
            raise ValueError(
                f"strategy.stream.alpha must be null with strategy.stream.delay=null, got {self.alpha}; any number of "
                "steps could be lost, so use null, or a number of steps as delay"
            )

        if self.gamma is not None and not 0.0 <= self.gamma < math.inf:
            raise ValueError(
                f"strategy.stream.gamma must be >= 0 and finite, got {self.gamma}; use a factor such as 0.5, or null"
            )

    def overlap(self, local_steps: int) -> int:
        """The most steps that a client takes between submitting and its next task."""
        return local_steps if self.delay is None else min(self.delay, local_steps)

    @staticmethod
    def of(strategy: object) -> "Streaming | None":
        """What a strategy says of streaming; None: each merge is of the whole model."""
        return strategy.stream if isinstance(strategy, Streamed) else None


@runtime_checkable
class Streamed(Protocol):
    """A strategy that may synchronise fragments; one without `stream` synchronises the whole model."""

    stream: Streaming | None


@dataclass(frozen=True)
class Fragments:
    """The names of the tensors of each fragment. They depend on nothing but the shapes of the model."""

    names: tuple[tuple[str, ...], ...]

    @classmethod
    def split(cls, shapes: Shapes, count: int) -> "Fragments":
        """`count` fragments: block i of the model is in fragment i mod `count`, strided as in the paper.

        Embeddings, head and scalars go to the fragment that is smallest by then, the largest tensor first. Without
        tensors (a run that trains nothing), all fragments are empty.

        Raises ValueError if a fragment of a model that has tensors would be empty.
        """
        if not shapes:
            return cls(((),) * count)
        of = {name: int(match[1]) % count for name in shapes if (match := _BLOCK.match(name))}
        sizes = [0] * count
        for name, index in of.items():
            sizes[index] += math.prod(shapes[name])
        for name in sorted(shapes.keys() - of.keys(), key=lambda name: (-math.prod(shapes[name]), name)):
            of[name] = sizes.index(min(sizes))
            sizes[of[name]] += math.prod(shapes[name])
        if len(set(of.values())) < count:
            raise ValueError(
                f"strategy.stream.fragments must be <= the number of parts of the model, got {count}; use fewer, or a "
                "deeper model"
            )
        return cls(tuple(tuple(name for name in shapes if of[name] == index) for index in range(count)))

    def of(self, tensors: Mapping[str, V], index: int) -> dict[str, V]:
        """Those of the tensors (or shapes) that are in one fragment."""
        return {name: tensors[name] for name in self.names[index]}


def mixed(local: Tensor, base: Tensor, merged: Tensor, alpha: float | None) -> Tensor:
    """θ_global + (θ_local − base), or αθ_local + (1 − α)θ_global, in memory of its own; exactly θ_global with α = 0."""
    if alpha is None:
        return merged + (local - base)
    if alpha == 0.0:
        return merged.detach().clone()
    return local * alpha + merged * (1.0 - alpha)


def take_in(local: State, base: State, merged: State, alpha: float | None) -> State:
    """A client's weights once it has taken in the fragments in `merged`; the arguments are not changed.

    `base` is what it has submitted, or taken in since: what `local` differs from it by is not submitted.
    """
    return {**local, **{name: mixed(local[name], base[name], tensor, alpha) for name, tensor in merged.items()}}
