"""Tensors that clients keep between rounds besides their optimizer's state: for codec, strategy and streaming."""

from collections.abc import Mapping
from typing import Literal

from fednano.core.tensors import State

Owner = Literal["codec", "strategy", "stream"]
OWNERS: tuple[Owner, ...] = ("codec", "strategy", "stream")
PREFIX = "kept/"  # of its names, to tell them from those of an optimizer's state


class ClientMemory:
    """The kept tensors of the clients of one process. They are never changed in place, only replaced."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[Owner, State]] = {}

    def of(self, client: str, owner: Owner) -> State:
        """The tensors that a client keeps for `owner`; empty if there are none."""
        return self._kept.get(client, {}).get(owner, {})

    def keep(self, client: str, owner: Owner, state: State) -> None:
        """Replace what a client keeps for `owner`; an empty state drops it."""
        if state:
            held = self._kept.setdefault(client, {})
            held[owner] = {name: tensor.detach().cpu() for name, tensor in state.items()}
        elif held := self._kept.get(client, {}):
            held.pop(owner, None)

    def forget(self, client: str) -> None:
        """Drop all that a client keeps, as after a crash."""
        self._kept.pop(client, None)

    def states(self) -> dict[str, State]:
        """All kept tensors, by client, under names that no optimizer's state has. The tensors are not copied."""
        named = {
            client: {
                f"{PREFIX}{owner}/{name}": tensor for owner, state in held.items() for name, tensor in state.items()
            }
            for client, held in self._kept.items()
        }
        return {client: state for client, state in named.items() if state}

    def restore(self, client: str, named: State) -> None:
        """The inverse of `states`, for one client; other names are ignored."""
        for owner in OWNERS:
            prefix = f"{PREFIX}{owner}/"
            state = {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}
            self.keep(client, owner, state)


def joined(optimizers: Mapping[str, State], kept: Mapping[str, State]) -> dict[str, State]:
    """Optimizer states joined with kept tensors, by client."""
    both = {c: {**optimizers.get(c, {}), **kept.get(c, {})} for c in sorted(optimizers.keys() | kept.keys())}
    return {client: state for client, state in both.items() if state}


def owned(state: State, *owners: Owner) -> State:
    """The tensors of `state` that are kept for `owners`, under their prefixed names."""
    prefixes = tuple(f"{PREFIX}{owner}/" for owner in owners)
    return {name: tensor for name, tensor in state.items() if name.startswith(prefixes)}


def without_kept(state: State) -> State:
    """The optimizer's part of a state that `joined` made."""
    return {name: value for name, value in state.items() if not name.startswith(PREFIX)}
