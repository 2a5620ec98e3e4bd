"""The TensorBoard logger: what it writes is read back with TensorBoard's own reader."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from support.event_logs import volatile_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fednano.core.events import Evaluated, RoundMerged, UpdateFolded
from fednano.report.metrics import MetricRows
from fednano.report.sinks import Fanout
from fednano.report.tracking import tensorboard_sink
from fednano.report.tracking.loggers import Loggers
from fednano.report.tracking.tensorboard_sink import Tensorboard


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(tokens, value) of every scalar."""
    read = EventAccumulator(str(folder))
    read.Reload()
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def opened(folder: Path) -> Fanout:
    sinks = Loggers({"tensorboard": Tensorboard()}).open(folder, {}, dict)
    return Fanout([MetricRows(lambda: {"energy_kwh": 0.5, "co2_g": None}, sinks), *sinks])


def test_losses_and_costs_stand_over_tokens(tmp_path: Path) -> None:
    events = volatile_run(6)
    fan = opened(tmp_path)
    for event in events:
        fan.event(event)
    found = curves(tmp_path / "tensorboard")  # before the close
    merged = [event for event in events if isinstance(event, RoundMerged)]
    evaluated = [event for event in events if isinstance(event, Evaluated)]
    assert found["round/train_loss"] == [(e.tokens_total, pytest.approx(e.train_loss)) for e in merged]
    assert found["evaluation/val_bpb"] == [(e.tokens_total, pytest.approx(e.val_bpb)) for e in evaluated]
    assert found["cost/energy_kwh"] == [(e.tokens_total, 0.5) for e in merged]
    assert found["cost/bytes_up"][-1][1] == sum(e.bytes for e in events if isinstance(e, UpdateFolded))
    assert "cost/co2_g" not in found
    fan.close({})


def test_a_resumed_run_has_each_round_once(tmp_path: Path) -> None:
    for rounds in (3, 6):
        fan = opened(tmp_path)
        for event in volatile_run(rounds):
            fan.event(event)
        fan.close({})
    assert len(curves(tmp_path / "tensorboard")["round/norm"]) == 6


def test_a_full_disk_costs_one_warning(
    run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opening, written = Path.open, []

    class Full:
        def __init__(self, file: IO[bytes]) -> None:
            self.file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, data: bytes) -> int:
            written.append(data)
            if len(written) > 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(data)

    def open_(path: Path, mode: str = "r", *given: Any, **named: Any) -> Any:
        file = opening(path, mode, *given, **named)
        return Full(file) if "tfevents" in path.name else file

    monkeypatch.setattr(tensorboard_sink.Path, "open", open_)
    summary = run("logger=[local,tensorboard]", "runtime.compute=analytic")
    assert (summary["status"], len(written)) == ("completed", 3)
    [warned] = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert "logger.tensorboard was lost" in warned and "make room on its disk" in warned


def test_a_folder_that_cannot_be_made_is_refused(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").touch()
    with pytest.raises(ValueError, match=r"logger\.tensorboard must be able to write its files"):
        run("logger=tensorboard", "runtime.compute=analytic", resume=True)
