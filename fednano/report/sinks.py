"""Where a run's news goes: the `Sink` protocol, a fan-out, and the metrics file.

A sink hears every event of the event log, and each inner step besides. Sinks do not catch their own failures:
one that cannot write stops the run with its cause.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fednano.core.events import Evaluated, Event, RoundMerged, finite
from fednano.core.inner_step import InnerStep

Energy = Callable[[], dict[str, Any]]
"""What a run has consumed up to the last event: `total` and `clients` as under `energy` in `summary.json`."""


class Sink(Protocol):
    """Something that is told what a run does."""

    def event(self, event: Event) -> None:
        """An event, at the moment it goes on the event log."""

    def step(self, step: InnerStep) -> None:
        """An inner step is done."""

    def close(self, summary: dict[str, Any]) -> None:
        """The run is over; `summary` is what `summary.json` holds."""


class Logger(Protocol):
    """A `logger` choice."""

    def open(self, folder: Path, config: dict[str, Any], energy: Energy) -> list[Sink]:
        """Sinks beside the console and the metrics file; what `energy` tells they ask for where they want it."""


class Fanout:
    """Tells several sinks, in order. What one raises propagates; at the close the others are still closed.

    A sink that has `hears`, types of events, is told of no others.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)
        self._told: dict[type[Event], list[Callable[[Event], None]]] = {}

    def event(self, event: Event) -> None:
        kind = type(event)
        if kind not in self._told:
            self._told[kind] = [sink.event for sink in self._sinks if kind in getattr(sink, "hears", (kind,))]
        for tell in self._told[kind]:
            tell(event)

    def step(self, step: InnerStep) -> None:
        for sink in self._sinks:
            sink.step(step)

    def close(self, summary: dict[str, Any]) -> None:
        with ExitStack() as stack:
            for sink in reversed(self._sinks):
                stack.callback(sink.close, summary)


def metrics(event: Event) -> dict[str, float | int | None] | None:
    """The figures of an event to plot, if any. `tokens` is the run's total so far, `t` run-clock seconds."""
    match event:
        case RoundMerged():
            row: dict[str, float | int] = {
                "round": event.round,
                "t": event.t,
                "tokens": event.tokens_total,
                "round_tokens": event.tokens,
                "steps": event.steps,
                "updates": len(event.leases),
                "train_loss": event.train_loss,
                "lr_scale": event.lr_scale,
                "norm": event.norm,
                "wall_s": event.wall_s,
                "wall_train_s": event.wall_train_s,
                "wall_data_s": event.wall_data_s,
            }
        case Evaluated():
            row = {
                "round": event.round,
                "t": event.t,
                "tokens": event.tokens_total,
                "val_bpb": event.val_bpb,
                "val_loss": event.val_loss,
                "wall_s": event.wall_s,
            }
        case _:
            return None
    return {key: finite(value) for key, value in row.items()}


class MetricsFile:
    """`metrics.jsonl`: one JSON object per merged round and per evaluation, flushed per line."""

    hears = (RoundMerged, Evaluated)

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def event(self, event: Event) -> None:
        row = metrics(event)
        if row is not None:
            self._file.write(json.dumps(row, allow_nan=False) + "\n")
            self._file.flush()

    def step(self, step: InnerStep) -> None:
        pass

    def close(self, summary: dict[str, Any]) -> None:
        self._file.close()


@dataclass(frozen=True)
class Local:
    """`logger=local`: nothing beside the console, the metrics file and the report, which every run has."""

    def open(self, folder: Path, config: dict[str, Any], energy: Energy) -> list[Sink]:
        return []
