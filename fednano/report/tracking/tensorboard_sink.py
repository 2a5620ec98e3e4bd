"""The TensorBoard logger. The only module that imports tensorboard, and only when a run asks for it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fednano.core.clock import epoch
from fednano.core.events import Event
from fednano.core.failures import naming
from fednano.core.inner_step import InnerStep
from fednano.report.metrics import MetricsRow
from fednano.report.sinks import Energy, Sink
from fednano.report.tracking.needed import needed
from fednano.report.tracking.scalars import scalars

PATTERN = "events.out.tfevents.*"


class TensorboardSink:
    """Writes the rows of `metrics.jsonl` as scalars over tokens, flushed per row.

    TensorBoard's own writer works in a thread, whose failures come late and print a traceback, so that only its records
    are used.

    Raises ValueError if tensorboard is not installed, and OSError if the file cannot be written.
    """

    hears = ()

    def __init__(self, folder: Path) -> None:
        with needed("tensorboard", "'fednano[tensorboard]'"):
            from tensorboard.compat.proto.event_pb2 import Event as Entry
            from tensorboard.summary.writer.record_writer import RecordWriter

        self._entry = Entry
        folder.mkdir(exist_ok=True)
        for earlier in folder.glob(PATTERN):  # a resumed run gets all of its rows again
            earlier.unlink()
        self._path = folder / PATTERN.replace("*", f"{int(epoch())}.fednano")
        with naming(self._path):
            self._file = self._path.open("wb")
            self._records = RecordWriter(self._file)
            self._write(Entry(wall_time=epoch(), file_version="brain.Event:2"))

    def event(self, event: Event) -> None:
        pass

    def step(self, step: InnerStep) -> None:
        pass

    def log_metrics(self, row: MetricsRow) -> None:
        entry = self._entry(wall_time=epoch(), step=row["tokens"])
        for name, value in scalars(row):
            entry.summary.value.add(tag=name, simple_value=value)
        with naming(self._path):
            self._write(entry)

    def close(self, summary: dict[str, Any]) -> None:
        with naming(self._path):
            self._file.close()

    def _write(self, entry: Any) -> None:
        self._records.write(entry.SerializeToString())
        self._file.flush()


@dataclass(frozen=True)
class Tensorboard:
    """`logger=tensorboard`: a `TensorboardSink` in the folder `tensorboard`."""

    def open(self, folder: Path, config: dict[str, Any], energy: Energy) -> list[Sink]:
        return [TensorboardSink(folder / "tensorboard")]
