"""Schedules that are hard on the round loop."""

from flwr.app import Message

from fednano.flower.virtual_grid import VirtualGrid


def hostile(fates: list[str], late_s: float) -> type[VirtualGrid]:
    """A grid whose replies, in the order of their messages, have these fates; the rest come in time."""
    left = iter(fates)

    class Hostile(VirtualGrid):
        def _deliver(self, message: Message) -> None:
            before = len(self._on_the_way)
            super()._deliver(message)
            fate = next(left, "in time")
            if len(self._on_the_way) == before:
                return
            at = next(i for i, entry in enumerate(self._on_the_way) if entry[1] == self._pushed)
            arrives, number, reply = self._on_the_way[at]
            if fate == "late":
                self._on_the_way[at] = (arrives + late_s, number, reply)
                self._clock.alarm(arrives + late_s)
            elif fate.startswith("twice"):
                again = arrives + (late_s if "later" in fate else 0.0)
                self._on_the_way.append((again, number, reply))
                self._clock.alarm(again)

    return Hostile
