"""The chosen loggers together: what one of them raises does not stop a run."""

import csv
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.event_logs import volatile_run
from support.faulty import unwritable
from support.inner_steps import step_of

from fednano.core.events import Event, RoundMerged, RunStarted
from fednano.core.inner_step import InnerStep
from fednano.report.metrics import MetricRows
from fednano.report.sinks import Energy, Fanout, Sink
from fednano.report.tracking.loggers import Loggers


@dataclass
class Own:
    """A logger and its sink at once."""

    fails: str = ""
    opens: BaseException | None = None
    heard: list[str] = field(default_factory=list)

    def open(self, folder: Path, config: dict[str, Any], energy: Energy) -> list[Sink]:
        if self.opens:
            raise self.opens
        return [self]

    def _hear(self, what: str) -> None:
        self.heard.append(what)
        if what == self.fails:
            raise RuntimeError("the tracker\nis gone")

    def event(self, event: Event) -> None:
        self._hear(type(event).__name__)

    def step(self, step: InnerStep) -> None:
        self._hear("step")

    def log_metrics(self, row: dict[str, Any]) -> None:
        self._hear("row")

    def close(self, summary: dict[str, Any]) -> None:
        self._hear(f"close {summary['status']}")


def played(loggers: Loggers, folder: Path) -> None:
    sinks = loggers.open(folder, {}, dict)
    fan = Fanout([MetricRows(dict, sinks), *sinks])
    for event in volatile_run(2):
        fan.event(event)
    fan.step(step_of("site-0", 1, 2, 25, 3.5, 1024))
    fan.close({"status": "completed"})


@pytest.mark.parametrize("where", ["RunStarted", "step", "row", "close completed"])
def test_a_failure_costs_one_warning_and_the_other_loggers_nothing(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken, other = Own(), Own(where), Own()
    played(Loggers({"": whole}), tmp_path)
    played(Loggers({"broken": broken, "other": other}), tmp_path)
    assert other.heard == whole.heard
    assert broken.heard == whole.heard[: whole.heard.index(where) + 1]
    assert {"RunStarted", "row", "step"} <= set(whole.heard) and whole.heard[-1] == "close completed"
    assert capsys.readouterr().err == (
        "fednano: warning: logger.broken was lost and gets no more figures (the tracker is gone); they are in the run "
        "folder\n"
    )


def test_a_logger_that_hears_some_events_gets_no_others(tmp_path: Path) -> None:
    own = Own()
    own.hears = (RoundMerged,)  # type: ignore[attr-defined]
    played(Loggers({"own": own}), tmp_path)
    assert set(own.heard) == {"RoundMerged", "row", "step", "close completed"}


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("logger.second.key must be 1, got 2"), "logger.second.key must be 1, got 2"),
        (OSError(28, "No space left on device", "/x/y"), "logger.second must be able to write its files, got an error: "
         "/x/y cannot be used (No space left on device); make room on its disk; or choose another"),
    ],
)  # fmt: skip
def test_a_logger_that_cannot_be_opened_is_refused_and_those_before_are_closed(
    error: Exception, says: str, tmp_path: Path
) -> None:
    first = Own()
    with pytest.raises(ValueError) as refused:
        Loggers({"first": first, "second": Own(opens=error)}).open(tmp_path, {}, dict)
    assert str(refused.value) == says
    assert first.heard == ["close refused"]


def test_an_interrupt_is_no_failure_of_a_logger(tmp_path: Path) -> None:
    class Interrupted(Own):
        def event(self, event: Event) -> None:
            if isinstance(event, RunStarted):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        played(Loggers({"own": Interrupted()}), tmp_path)


def test_a_full_disk_under_a_table_does_not_end_a_run(
    run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, written = csv.DictWriter.writerow, []

    def full(table: Any, row: dict[str, Any]) -> None:
        written.append(row)
        if len(written) > 3:  # the header and two rows
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(table, row)

    monkeypatch.setattr(csv.DictWriter, "writerow", full)
    summary = run("logger=[csv,local]", "runtime.compute=analytic")
    assert (summary["status"], len(written)) == ("completed", 4)
    table, rows = ((summary["folder"] / name).read_text() for name in ("metrics.csv", "metrics.jsonl"))
    assert table.count("\n") == 3 < rows.count("\n")
    [warned] = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert "logger.csv was lost" in warned and f"{summary['folder']}/metrics.csv" in warned


def test_a_table_that_cannot_be_begun_is_refused(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    with unwritable("metrics.csv", errno.ENOSPC), pytest.raises(ValueError, match=r"logger\.csv must be able to write"):
        run("logger=csv", "runtime.compute=analytic")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["metrics.csv"]
