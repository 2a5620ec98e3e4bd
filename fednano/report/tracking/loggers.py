"""The chosen loggers together: they are opened in turn, and none that fails later stops the run."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fednano.config.errors import one_line, warn
from fednano.core.events import Event
from fednano.core.failures import explained
from fednano.core.inner_step import InnerStep
from fednano.report.sinks import REFUSAL, Energy, Logger, Sink


class Tracker:
    """A logger's sink, whose first failure is a warning, and which gets nothing afterwards.

    Args:
        key: where the logger stands in the configuration.
        sink: whatever the logger has opened.
    """

    def __init__(self, key: str, sink: Sink) -> None:
        self._key = key
        self._sink = sink
        self._lost = False
        if hasattr(sink, "hears"):
            self.hears = sink.hears
        if callable(take := getattr(sink, "log_metrics", None)):
            self.log_metrics = lambda row: self._tell(lambda: take(row))

    def event(self, event: Event) -> None:
        self._tell(lambda: self._sink.event(event))

    def step(self, step: InnerStep) -> None:
        self._tell(lambda: self._sink.step(step))

    def close(self, summary: dict[str, Any]) -> None:
        self._tell(lambda: self._sink.close(summary))

    def _tell(self, call: Callable[[], object]) -> None:
        if self._lost:
            return
        try:
            call()
        except Exception as error:  # whatever a tracking library or a user's own logger raises
            self._lost = True
            why = explained(error) or one_line(error)
            warn(f"{self._key} was lost and gets no more figures ({why}); they are in the run folder")


@dataclass(frozen=True)
class Loggers:
    """The `logger` choices by their names in the configuration; "" is one whose keys stand in `logger` itself."""

    choices: Mapping[str, Logger]

    def open(self, folder: Path, config: dict[str, Any], energy: Energy) -> list[Sink]:
        """Open all of them. Raises ValueError if one cannot be; those that were opened before are closed then."""
        sinks: list[Sink] = []
        try:
            for name, logger in self.choices.items():
                key = f"logger.{name}" if name else "logger"
                sinks += [Tracker(key, sink) for sink in _opened(logger, key, folder, config, energy)]
        except BaseException:
            for sink in sinks:
                with suppress(Exception):
                    sink.close(REFUSAL)
            raise
        return sinks


def _opened(logger: Logger, key: str, folder: Path, config: dict[str, Any], energy: Energy) -> list[Sink]:
    try:
        return logger.open(folder, config, energy)
    except OSError as error:
        why = explained(error) or one_line(error)
        raise ValueError(f"{key} must be able to write its files, got an error: {why}; or choose another") from error
