"""Following a run that another process writes: new lines of its files, and the outcome from its summary."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fednano.runtime.session import Outcome, Status
from fednano.strategy.base import ServerState
from fednano.training.recorder import RunProgress


class Lines:
    """The complete lines of a file that another process appends to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0  # bytes, up to the end of a line
        self._last = b""

    def new(self) -> list[str] | None:
        """The lines since the last call; an empty list while the file does not exist.

        None if the last line read is gone: the file was truncated, and other lines may have been appended since.
        """
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read - len(self._last))
            data = file.read()
        if not data.startswith(self._last):
            return None
        lines = data[len(self._last) :].splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            del lines[-1]
        if lines:
            self._read, self._last = self._read + sum(map(len, lines)), lines[-1]
        return [line.decode("utf-8") for line in lines]


def outcome_of(strategy: str, summary: Mapping[str, Any], clients: int, error: Exception | None) -> Outcome:
    """The outcome of a run from the ServerApp's summary; without weights, which are in the run folder."""
    moved = summary.get("bytes", {})
    progress = RunProgress(
        rounds=summary.get("rounds", 0),
        tokens=summary.get("tokens", 0),
        steps=summary.get("inner_steps", 0),
        bytes_up=moved.get("up", 0),
        bytes_down=moved.get("down", 0),
        train_loss=summary.get("train_loss"),
        val_bpb_initial=summary.get("val_bpb_initial"),
        val_bpb=summary.get("val_bpb"),
        ended_by=summary.get("ended_by"),
    )
    status: Status = "failed" if error else summary["status"]
    return Outcome(
        status=status,
        strategy=strategy,
        state=ServerState(),
        progress=progress,
        clients=clients,
        rows=summary.get("rows", {}),
        train_s=summary.get("train_s", 0.0),
        data_s=summary.get("data_s", 0.0),
        virtual_s=None,
        goodput=summary.get("goodput"),
        error=error,
    )
