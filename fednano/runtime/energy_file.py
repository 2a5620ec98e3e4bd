"""`energy.json` while a run trains, for whoever watches it: its consumption so far, beside the curves of its end."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from fednano.core.clock import Throttle
from fednano.core.events import Event, RoundMerged, RoundSkipped
from fednano.core.inner_step import InnerStep
from fednano.runtime.meter import Meter
from fednano.training.checkpoint import write_json

ENERGY = "energy.json"
EVERY_S = 2.0


class EnergyFile:
    """A sink that writes the meter's figures at ends of rounds, at most once in EVERY_S seconds of real time.

    Args:
        path: the file. At the run's end it is written anew, without `so_far`.
        meter: hears events before this sink does.
    """

    hears = (RoundMerged, RoundSkipped)

    def __init__(self, path: Path, meter: Meter) -> None:
        self._path = path
        self._meter = meter
        self._throttle = Throttle(EVERY_S)  # writing the curves of many clients takes a while

    def event(self, event: Event) -> None:
        if not self._throttle.due():
            return
        # It only shows the run; a disk that is full ends it at the next event or checkpoint.
        with self._throttle, suppress(OSError):
            write_json(self._path, {**self._meter.curves(), "so_far": self._meter.totals()})

    def step(self, step: InnerStep) -> None:
        pass

    def close(self, summary: dict[str, Any]) -> None:
        pass
