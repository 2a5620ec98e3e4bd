"""A strategy whose clients keep something: half of each update is submitted with the next one."""

from dataclasses import dataclass

from fednano.core.tensors import State
from fednano.strategy.client_part import ClientPart, LocalRule
from fednano.strategy.synchronous import Synchronous


class Carry(LocalRule):
    """Holds back half of what there is to submit."""

    def update(self, delta: State, steps: int) -> State:
        whole = {name: tensor + self.kept[name] if name in self.kept else tensor for name, tensor in delta.items()}
        self.kept = {name: tensor / 2 for name, tensor in whole.items()}
        return {name: tensor - self.kept[name] for name, tensor in whole.items()}


@dataclass(frozen=True)
class CarryPart:
    """Makes the rules."""

    def begin(self, base: State, kept: State, client: str, round_: int) -> LocalRule:
        return Carry(base, kept)


@dataclass(frozen=True, kw_only=True)
class Carrying(Synchronous):
    """DiLoCo that is late by half."""

    client: ClientPart | None = CarryPart()
