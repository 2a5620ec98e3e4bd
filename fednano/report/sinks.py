"""Sinks, which receive a run's events: the `Sink` and `Logger` protocols and a fan-out.

A sink receives every event of the event log, and each inner step as well. Sinks do not catch their own failures.
One that the run cannot do without stops it with the cause; those of loggers are put into a `Tracker`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fednano.core.events import Event
from fednano.core.inner_step import InnerStep

Energy = Callable[[], dict[str, Any]]
"""The run's consumption up to the last event: `total` and `clients` as under `energy` in `summary.json`."""

REFUSAL = {"status": "refused"}
"""What sinks are closed with if the run is refused."""


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
    """A receiver of a run's events and steps.

    A sink that has a method `log_metrics` also gets the rows of `metrics.jsonl`, each as a dictionary of its own.
    """

    def event(self, event: Event) -> None:
        """Take an event at the moment it is written to the event log."""

    def step(self, step: InnerStep) -> None:
        """Take a finished inner step."""

    def close(self, summary: dict[str, Any]) -> None:
        """End: the run is over; `summary` is the content of `summary.json`.

        Of a run that is refused before anything has happened, it is `REFUSAL`.
        """


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


@dataclass(frozen=True)
class Local:
    """`logger=local`: only the console, the metrics file and the report, which every run has."""

    def open(self, folder: Path, config: dict[str, Any], energy: Energy) -> list[Sink]:
        return []
