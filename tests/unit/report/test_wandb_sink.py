"""The W&B sink, offline and for real: what it writes is read back from its log."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import wandb
from support.event_logs import CLIENTS, summary_of, volatile_run
from support.inner_steps import step_of
from support.wandb_log import history_of, items_of, records_of
from support.wandb_server import wandb_server

from fednano.core.event_log import read_log
from fednano.core.events import ClientUp, Evaluated, RoundMerged, UpdateFolded
from fednano.report.metrics import MetricRows
from fednano.report.sinks import Energy, Fanout
from fednano.report.tracking import wandb_sink
from fednano.report.tracking.happenings import COLUMNS
from fednano.report.tracking.loggers import Loggers
from fednano.report.tracking.wandb_sink import CHARTED, Wandb


def _rows(folder: Path) -> list[dict[str, Any]]:
    """What a run logged, row by row."""
    [log] = folder.rglob("*.wandb")
    return history_of(log)


def consumed(kwh: float) -> dict[str, Any]:
    """An account of the clients, one of which has used nothing and has no share in windows."""
    used = {"kwh": kwh, "co2_g": None, "share_in_windows": 0.5, "on_h": 1.0}
    none = {"kwh": 0.0, "co2_g": None, "share_in_windows": None, "on_h": 0.0}
    return {"total": used, "clients": {CLIENTS[0]: used, CLIENTS[1]: none}}


def opened(settings: Wandb, folder: Path, config: dict[str, Any], energy: Energy) -> Fanout:
    """The logger as a run has it: behind the rows of metrics, and with nothing that it raises."""
    sinks = Loggers({"wandb": settings}).open(folder, config, energy)
    return Fanout([MetricRows(dict, sinks), *sinks])


@pytest.fixture
def settings() -> Wandb:
    return Wandb(project="fednano", mode="offline", name=None, group="sweep", tags=["test"])


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    for key in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_RUN_ID", "WANDB_SWEEP_ID"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # whatever happens, nobody outside is asked
    wandb.teardown()  # its process has the settings of the test before


def test_offline_run_holds_what_the_events_say(tmp_path: Path, offline: None, settings: Wandb) -> None:
    folder = tmp_path / "quickstart" / "2025-01-01_00-00-00"
    folder.mkdir(parents=True)
    events = volatile_run(rounds=6)
    fan = opened(settings, folder, {"seed": 3, "model": {"depth": 2}}, lambda: consumed(1.5))
    for event in events:
        fan.event(event)
    fan.step(step_of("site-0", 1, 1, 25, 3.0, 1024))
    fan.close(summary_of(events))
    rows = _rows(folder)
    [log] = folder.rglob("*.wandb")
    records = records_of(log)
    merged = [e for e in events if isinstance(e, RoundMerged)]
    evaluated = [e for e in events if isinstance(e, Evaluated)]
    assert [(r["tokens"], r["train_loss"], r["round"], r["virtual_s"]) for r in rows if "train_loss" in r] == [
        (e.tokens_total, e.train_loss, e.round, e.t) for e in merged
    ]
    assert [(r["tokens"], r["val_bpb"]) for r in rows if "val_bpb" in r] == [
        (e.tokens_total, e.val_bpb) for e in evaluated
    ]
    energy = [{key: value for key, value in r.items() if key.startswith("energy/")} for r in rows if "train_loss" in r]
    assert energy == len(merged) * [
        {
            "energy/total/kwh": 1.5,
            "energy/total/share_in_windows": 0.5,
            f"energy/clients/{CLIENTS[0]}/kwh": 1.5,
            f"energy/clients/{CLIENTS[0]}/share_in_windows": 0.5,
            f"energy/clients/{CLIENTS[1]}/kwh": 0.0,
        }
    ]
    summary: dict[str, Any] = {}
    for record in records:
        if record.WhichOneof("record_type") == "summary":
            summary |= items_of(record.summary.update)
    assert summary["val_bpb"] == evaluated[-1].val_bpb
    assert summary["rows/lost"] == 0
    assert "energy_kwh" not in summary
    assert summary["wall_run_s"] == summary_of(events)["wall_s"]
    assert summary["wall_s"] == evaluated[-1].wall_s  # of the last row, as W&B keeps it
    runs = [r.run for r in records if r.WhichOneof("record_type") == "run"]
    assert runs[0].display_name == "quickstart/2025-01-01_00-00-00"
    assert items_of(runs[0].config.update)["model"] == {"depth": 2}
    axes = {r.metric.glob_name: r.metric.step_metric for r in records if r.WhichOneof("record_type") == "metric"}
    assert axes["*"] == "tokens"


def test_energy_is_logged_as_it_is_used_and_ends_with_the_summary(
    run: Callable[..., dict[str, Any]], offline: None
) -> None:
    summary = run(
        "logger=wandb", "logger.wandb.mode=offline", "runtime.compute=analytic", "rounds=4", "energy.carbon=[100,500]"
    )
    rows = [row for row in _rows(summary["folder"]) if "energy/total/kwh" in row]
    grown = [row["energy/total/kwh"] for row in rows]
    assert len(rows) == 5
    assert grown[:-1] == sorted(grown[:-1])
    assert 0 < grown[0] < grown[-1] / 2
    parts = {"total": summary["energy"]["total"], **summary["energy"]["clients"]}
    for name, figures in parts.items():
        place = f"energy/{name}" if name == "total" else f"energy/clients/{name}"
        assert {key: rows[-1].get(f"{place}/{key}") for key in CHARTED} == {key: figures[key] for key in CHARTED}
        # The last round ends with the run, so that what was added up in pieces is the same but for rounding.
        assert rows[-2][f"{place}/kwh"] == pytest.approx(figures["kwh"], rel=1e-9)
    assert (rows[-1]["tokens"], rows[-1]["virtual_s"]) == (summary["tokens"], pytest.approx(summary["virtual_s"]))


def test_clients_have_curves_of_their_own(tmp_path: Path, offline: None, settings: Wandb) -> None:
    events = volatile_run(rounds=4)
    fan = opened(settings, tmp_path, {}, lambda: consumed(1.0))
    for event in events:
        fan.event(event)
    fan.close(summary_of(events))
    rows, expected, tokens = _rows(tmp_path), [], dict.fromkeys(CLIENTS, 0)
    since: dict[str, float] = {}
    for event in events:
        if isinstance(event, UpdateFolded):
            tokens[event.client] += event.tokens
            since |= {
                f"clients/{event.client}/train_loss": event.train_loss,
                f"clients/{event.client}/tokens": tokens[event.client],
            }
        elif isinstance(event, RoundMerged):
            expected.append(since)
            since = {}
    merged = [row for row in rows if "train_loss" in row]
    assert [{key: row[key] for key in row if key.startswith("clients/")} for row in merged] == expected
    up = [row["bytes_up"] for row in merged]
    assert up == sorted(up) and up[-1] == sum(e.bytes for e in events if isinstance(e, UpdateFolded))


def test_the_end_has_a_table_of_events_and_the_artifacts_that_were_asked_for(
    run: Callable[..., dict[str, Any]], offline: None
) -> None:
    summary = run("logger=wandb", "logger.wandb.mode=offline", "logger.wandb.checkpoint=true", "rounds=2")
    folder = summary["folder"]
    [log] = folder.glob("wandb/offline-run-*/*.wandb")
    records = records_of(log)
    told: dict[str, Any] = {}
    for record in records:
        if record.WhichOneof("record_type") == "summary":
            told |= items_of(record.summary.update)
    assert told["events"]["_type"] == "table-file"
    table = json.loads((log.parent / "files" / told["events"]["path"]).read_text())
    events = list(read_log(folder / "events.jsonl"))
    assert table["columns"] == list(COLUMNS)
    joined = [(row[0], row[2]) for row in table["data"] if row[1] == "join"]
    assert joined == [(event.t, event.client) for event in events if isinstance(event, ClientUp)]
    logged = {
        r.artifact.type: {entry.path for entry in r.artifact.manifest.contents}
        for r in records
        if r.WhichOneof("record_type") == "artifact"
    }
    last = sorted((folder / "checkpoints").iterdir())[-1]
    saved = {str(file.relative_to(last)) for file in last.rglob("*") if file.is_file()}
    assert logged == {"report": {"report.html"}, "model": saved, "run_table": {"events.table.json"}}


def test_what_cannot_be_attached_costs_a_warning_and_no_figure(
    tmp_path: Path, offline: None, settings: Wandb, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wandb_sink.WandbSink, "_log_files", full)
    (tmp_path / "report.html").touch()
    events = volatile_run(rounds=4)
    fan = opened(settings, tmp_path, {}, lambda: consumed(1.0))
    for event in events:
        fan.event(event)
    fan.close(summary_of(events))
    [warned] = [line for line in capfd.readouterr().err.splitlines() if line.startswith("fednano: ")]
    assert warned.startswith("fednano: warning: W&B does not get report.html (")
    [log] = tmp_path.rglob("*.wandb")
    assert any(record.WhichOneof("record_type") == "exit" for record in records_of(log))


def test_energy_of_many_clients_stands_beside_some_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None, settings: Wandb
) -> None:
    events = volatile_run(rounds=6)
    merged = sum(isinstance(event, RoundMerged) for event in events)
    monkeypatch.setattr(wandb_sink, "MAX_ACCOUNTS", 6 * len(CLIENTS) // 2)
    asked = []
    fan = opened(settings, tmp_path, {}, lambda: asked.append(1) or consumed(1.0))
    for event in events:
        fan.event(event)
    fan.close(summary_of(events))
    assert len([row for row in _rows(tmp_path) if "energy/total/kwh" in row]) == len(asked) == merged // 2 > 0


def test_who_does_not_ask_has_nothing_counted(
    run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(meter: object) -> None:
        raise AssertionError("nobody asked")

    monkeypatch.setattr("fednano.runtime.meter.Meter.so_far", counted)
    assert run("runtime.compute=analytic")["status"] == "completed"


@pytest.mark.parametrize(
    ("environment", "mode"),
    [({}, "offline"), ({"WANDB_SWEEP_ID": "s"}, "online"), ({"WANDB_MODE": "online"}, "online"),
     ({"WANDB_MODE": "dryrun", "WANDB_SWEEP_ID": "s"}, "offline"), ({"WANDB_MODE": "x"}, "offline")],
)  # fmt: skip
def test_the_environment_decides_where_the_configuration_does_not(
    environment: dict[str, str], mode: str, offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    modes: list[str] = []
    monkeypatch.setattr(wandb_sink, "WandbSink", lambda **given: modes.append(given["mode"]))
    for choice in ("auto", "offline"):
        Wandb(project="p", mode=choice, name=None, group=None, tags=[]).open(tmp_path, {}, dict)
    assert modes == [mode, "offline"]
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert Wandb(project="p", mode="auto", name=None, group=None, tags=[]).open(tmp_path, {}, dict) == []


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("mode", "of", "logger.wandb.mode must be one of auto, offline, online, got of"),
        ("project", "", "logger.wandb.project must not be empty"),
        ("tags", "a", "logger.wandb.tags must be a list, got a"),
    ],
)
def test_a_wrong_setting_is_named_before_wandb_is_asked(key: str, value: str, named: str) -> None:
    good: dict[str, Any] = {"project": "p", "mode": "offline", "name": None, "group": None, "tags": []}
    Wandb(**good)
    with pytest.raises(ValueError, match=named):
        Wandb(**{**good, key: value})


def test_wandb_is_imported_only_when_a_run_opens_it() -> None:
    modules = "fednano.report.tracking.wandb_sink, fednano.report.terminal.console"
    code = f"import sys, {modules}; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


KEY = "a" * 40


def test_a_server_that_dies_costs_one_warning(
    tmp_path: Path,
    offline: None,
    settings: Wandb,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "0.5")
    events = volatile_run(rounds=6)
    with wandb_server() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        fan = opened(replace(settings, mode="online"), tmp_path, {}, lambda: consumed(1.0))
    for event in events:
        fan.event(event)
    fan.close(summary_of(events))
    wandb.teardown()
    assert capfd.readouterr().err.count("fednano: warning: logger.wandb was lost") == 1
    assert [row for row in _rows(tmp_path) if "train_loss" in row]  # for `wandb sync`


def test_a_failure_inside_wandb_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Wandb, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        id, starting_step = "x", 0
        summary: ClassVar[dict[str, Any]] = {}

        def define_metric(self, *args: object, **options: object) -> None:
            pass

        def log(self, row: dict[str, Any], **options: object) -> None:
            raise ConnectionResetError("its process\nis gone")

        def finish(self, exit_code: int) -> None:
            raise AssertionError("it is gone")

    monkeypatch.setattr(wandb, "init", lambda **options: Broken())
    fan = opened(settings, tmp_path, {}, lambda: consumed(1.0))
    events = volatile_run(rounds=6)
    for event in events:
        fan.event(event)
    fan.close(summary_of(events))
    said = capsys.readouterr().err
    assert said.startswith("fednano: warning: logger.wandb was lost and gets no more figures (its process is gone)")
    assert said.count("\n") == 1


def test_an_invalid_key_is_refused_with_a_remedy(
    tmp_path: Path, offline: None, settings: Wandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "garbage")
    with pytest.raises(
        ValueError, match=r"logger\.wandb\.mode=online: .*run `wandb login`, or set logger\.wandb\.mode=offline"
    ):
        replace(settings, mode="online").open(tmp_path, {}, lambda: consumed(1.0))


def test_a_server_that_does_not_answer_is_refused_with_a_remedy(
    tmp_path: Path, settings: Wandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**options: Any) -> None:
        assert 0 < options["settings"].init_timeout <= 30
        raise wandb.errors.CommError("Timed out while retrying:\nno such host")

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.delenv("WANDB_INIT_TIMEOUT", raising=False)
    with pytest.raises(ValueError, match=r"or set logger\.wandb\.mode=offline"):
        replace(settings, mode="online").open(tmp_path, {}, lambda: consumed(1.0))
