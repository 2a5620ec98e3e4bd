"""A client's side of streaming: its own weights and what they have been submitted against, kept from task to task."""

from collections.abc import Mapping

import torch
from msgspec import Struct

from fednano.core import tensors
from fednano.core.tensors import State
from fednano.strategy.streaming import Fragments, take_in

LOCAL, BASE, VERSIONS = "local/", "base/", "versions"


class StreamTask(Struct, frozen=True, kw_only=True):
    """The part of a task that concerns fragments, which are numbered from 0.

    Args:
        due: the fragment to submit.
        sent: the fragments whose weights the task brings.
        anew: whether the client begins from these weights, whatever it holds; they are then the whole model.
        forgets: whether it begins without anything else that it keeps too.
        holds: the version of each fragment that the client must hold before; empty: it need not check.
        gets: the version of each that it holds afterwards.
    """

    due: int
    sent: tuple[int, ...]
    anew: bool = False
    forgets: bool = False
    holds: tuple[int, ...] = ()
    gets: tuple[int, ...] = ()


class OwnWeights(Struct, frozen=True, kw_only=True):
    """A client's weights, and for each the `base` of its next update; both empty without training.

    The base is the global weight that it took in, or its own weight as it was submitted since: no change is submitted
    twice.
    """

    local: State
    base: State

    @classmethod
    def held(cls, kept: Mapping[str, torch.Tensor], stream: StreamTask, weights: State) -> "OwnWeights":
        """What a client holds when a task arrives that brings `weights`.

        Raises ValueError if it does not hold the versions that the task continues from.
        """
        if stream.anew:
            return cls(local=tensors.clone(weights), base=tensors.clone(weights))
        versions = tuple(int(version) for version in kept.get(VERSIONS, ()))
        if stream.holds and versions != stream.holds:
            raise ValueError(f"the client holds versions {versions} of the fragments, not {stream.holds}")

        if not kept:  # nothing is trained
            return cls(local={}, base={})

        def under(prefix: str) -> State:
            return {name.removeprefix(prefix): held for name, held in kept.items() if name.startswith(prefix)}

        return cls(local=under(LOCAL), base=under(BASE))

    def taken_in(self, local: State, weights: State, alpha: float | None) -> "OwnWeights":
        """After τ steps that led to `local`: the global `weights` that came with the task are taken in."""
        if not local:  # nothing is trained
            return self
        taken = take_in(local, self.base, weights, alpha)
        return OwnWeights(local=taken, base={**self.base, **tensors.clone(weights)})

    def submitted(self, local: State, due: int, fragments: int) -> State:
        """Δ = base − θ_local of the fragment that is due, after steps that led to `local`."""
        if not local:
            return {}
        split = Fragments.split(tensors.shapes(local), fragments)
        return tensors.subtract(split.of(self.base, due), local)

    def to_keep(self, local: State, delta: State, stream: StreamTask) -> State:
        """The tensors to keep for the next task, after steps that led to `local` and the submission of `delta`."""
        if not local:  # nothing is trained
            return {}
        mine = {LOCAL + name: tensor.detach().clone() for name, tensor in local.items()}
        base = {
            BASE + name: mine[LOCAL + name].clone() if name in delta else tensor for name, tensor in self.base.items()
        }
        # Counts below 2^24 are exact in float32, which is what travels and is saved everywhere.
        return {**mine, **base, VERSIONS: torch.tensor(stream.gets, dtype=torch.float32)}
