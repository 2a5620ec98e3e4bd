"""Sinks, which receive a run's events: the `Sink` protocol, a fan-out, and the metrics file.

A sink receives every event of the event log, and each inner step as well. Sinks do not catch their own failures:
a sink that cannot write stops the run with its cause.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fednano.core.events import Evaluated, Event, RoundMerged, finite
from fednano.core.failures import naming
from fednano.core.inner_step import InnerStep

Energy = Callable[[], dict[str, Any]]
"""The run's consumption up to the last event: `total` and `clients` as under `energy` in `summary.json`."""


def flat(tree: Mapping[str, Any], separator: str, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one: {"rows": {"lost": 0}} -> {"rows/lost": 0}. Lists stay whole."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, separator, f"{prefix}{key}{separator}")
        else:
            found[f"{prefix}{key}"] = value
    return found


class Sink(Protocol):
    """A receiver of a run's events and steps."""

    def event(self, event: Event) -> None:
        """Take an event at the moment it is written to the event log."""

    def step(self, step: InnerStep) -> None:
        """Take a finished inner step."""

    def close(self, summary: dict[str, Any]) -> None:
        """End: the run is over; `summary` is the content of `summary.json`."""


class Logger(Protocol):
    """A `logger` choice."""

    def open(self, folder: Path, config: dict[str, Any], energy: Energy) -> list[Sink]:
        """Sinks in addition to the console and the metrics file; they may call `energy` at any time."""


class Fanout:
    """Passes everything on to several sinks, in order. An exception propagates; `close` still closes the others.

    A sink with an attribute `hears`, types of events, receives only events of those types.
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
    """The figures of an event to plot, or None.

    `merges` and `tokens` are the run's totals so far, `t` is in seconds on the run's clock.
    """
    match event:
        case RoundMerged():
            row: dict[str, float | int] = {
                "round": event.round,
                "t": event.t,
                "merges": event.version,
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
                "merges": event.version,
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
        self._path = path
        self._file = path.open("w", encoding="utf-8")

    def event(self, event: Event) -> None:
        row = metrics(event)
        if row is not None:
            with naming(self._path):
                self._file.write(json.dumps(row, allow_nan=False) + "\n")
                self._file.flush()

    def step(self, step: InnerStep) -> None:
        pass

    def close(self, summary: dict[str, Any]) -> None:
        self._file.close()


@dataclass(frozen=True)
class Local:
    """`logger=local`: only the console, the metrics file and the report, which every run has."""

    def open(self, folder: Path, config: dict[str, Any], energy: Energy) -> list[Sink]:
        return []
