"""The W&B sink, offline and for real: what it writes is read back from its log."""

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tapes import summary_of, volatile_run

from fednano.events import Evaluated, RoundMerged
from fednano.report.sinks import Fanout
from fednano.report.wandb_sink import Wandb

BLOCK, HEADER = 32768, 7


def _records(path: Path) -> list[Any]:
    """The protobuf records of a run-*.wandb file, a LevelDB log behind seven bytes of identification."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts, records = path.read_bytes(), HEADER, b"", []
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # full, last
            record = Record()
            record.ParseFromString(parts)
            records.append(record)
            parts = b""
    return records


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


@pytest.fixture
def settings() -> Wandb:
    return Wandb(project="fednano", mode="offline", name=None, group="sweep", tags=["test"])


def test_offline_run_holds_what_the_events_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Wandb
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    for key in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_RUN_ID", "WANDB_SWEEP_ID"):
        monkeypatch.delenv(key, raising=False)
    folder = tmp_path / "quickstart" / "2025-01-01_00-00-00"
    folder.mkdir(parents=True)
    events = volatile_run(rounds=6)
    fan = Fanout(settings.open(folder, {"seed": 3, "model": {"depth": 2}}))
    for event in events:
        fan.event(event)
    fan.step("site-0", 1, 1, 25, 3.0, 1024)
    fan.close(summary_of(events))
    import wandb

    wandb.teardown()  # as at the end of the process: only then is the log surely on disk

    [log] = folder.rglob("*.wandb")
    records = _records(log)
    rows = [_items(r.history.item) for r in records if r.WhichOneof("record_type") == "history"]
    merged = [e for e in events if isinstance(e, RoundMerged)]
    evaluated = [e for e in events if isinstance(e, Evaluated)]
    assert [(r["tokens"], r["train_loss"], r["round"], r["virtual_s"]) for r in rows if "train_loss" in r] == [
        (e.tokens_total, e.train_loss, e.round, e.t) for e in merged
    ]
    assert [(r["tokens"], r["val_bpb"]) for r in rows if "val_bpb" in r] == [
        (e.tokens_total, e.val_bpb) for e in evaluated
    ]
    summary: dict[str, Any] = {}
    for record in records:
        if record.WhichOneof("record_type") == "summary":
            summary |= _items(record.summary.update)
    assert summary["val_bpb"] == evaluated[-1].val_bpb
    assert summary["rows/lost"] == 0
    assert "energy_kwh" not in summary
    runs = [r.run for r in records if r.WhichOneof("record_type") == "run"]
    assert runs[0].display_name == "quickstart/2025-01-01_00-00-00"
    assert _items(runs[0].config.update)["model"] == {"depth": 2}
    axes = {r.metric.glob_name: r.metric.step_metric for r in records if r.WhichOneof("record_type") == "metric"}
    assert axes["*"] == "tokens"


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [("mode", "of", "logger.mode=of"), ("project", "", "logger.project"), ("tags", "a", "logger.tags=a")],
)
def test_a_wrong_setting_is_named_before_wandb_is_asked(key: str, value: str, named: str) -> None:
    good: dict[str, Any] = {"project": "p", "mode": "offline", "name": None, "group": None, "tags": []}
    Wandb(**good)
    with pytest.raises(ValueError, match=named):
        Wandb(**{**good, key: value})


def test_wandb_is_imported_only_when_a_run_opens_it() -> None:
    code = "import sys, fednano.report.wandb_sink, fednano.report.console; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
