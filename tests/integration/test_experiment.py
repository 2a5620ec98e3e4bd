"""Whole experiments on real text: determinism, exactly-once rows, the summary, interruption, the baseline."""

import hashlib
import json
import math
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.runs import StopsAfter

from fednano.core import tensors
from fednano.core.event_log import read_log
from fednano.core.events import ClientDown, ClientUp, RoundMerged, RunEnded, UpdateFolded, UpdateRefused, WorkDispatched
from fednano.data.ledger import Ledger
from fednano.report.audit import audit
from fednano.report.history import read_history
from fednano.report.terminal.display import DIVERGED, summary_lines
from fednano.training.checkpoint import Checkpoints, load_model

Run = Callable[..., dict[str, Any]]

KEYS = {
    "status", "error", "ended_by", "runtime", "strategy", "method", "strategy_summary", "parameters", "clients",
    "rounds", "inner_steps", "tokens",
    "val_bpb_initial", "val_bpb", "train_loss", "wall_s", "train_s", "data_s", "virtual_s", "tokens_per_s", "goodput",
    "rows", "audit", "bytes", "energy_kwh", "co2_g", "energy", "peak_rss_mb", "weights_sha256", "tape_sha256",
    "seed", "versions",
}  # fmt: skip


def test_the_run_folder_is_whole(run: Run) -> None:
    summary = run()
    folder = summary.pop("folder")
    assert set(summary) == KEYS
    assert set(summary["rows"]) == {"total", "done", "leased", "free", "partly", "lost", "doubled"}
    assert set(summary["bytes"]) == {"up", "down"}
    assert summary["status"] == "completed"
    assert summary["method"] == {"outer": "Nesterov", "merging": "Mean", "schedule": "Constant", "codec": "fp32",
                                 "download": "fp32"}  # fmt: skip
    assert summary["val_bpb"] < summary["val_bpb_initial"]
    assert {"config.yaml", "events.jsonl", "metrics.jsonl", "summary.json", "report.html", "checkpoints", "model"} <= {
        path.name for path in folder.iterdir()
    }
    assert sorted(p.name for p in (folder / "model").iterdir()) == [
        "config.json",
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    weights = load_file(folder / "model" / "model.safetensors")
    assert tensors.digest(weights) == summary["weights_sha256"]
    assert tensors.count(weights) == summary["parameters"]
    assert not list(folder.rglob("*.tmp"))


def test_the_summary_agrees_with_the_event_log(run: Run) -> None:
    summary = run("rounds=4")
    events = list(read_log(summary["folder"] / "events.jsonl"))
    merged = [e for e in events if isinstance(e, UpdateFolded)]
    assert summary["tokens"] == sum(e.tokens for e in merged)
    assert summary["inner_steps"] == sum(e.steps for e in merged)
    refused = [e for e in events if isinstance(e, UpdateRefused)]
    assert summary["bytes"]["up"] == sum(e.bytes for e in merged + refused)
    assert summary["bytes"]["down"] == sum(e.bytes for e in events if isinstance(e, WorkDispatched))
    assert events[-1].t == summary["virtual_s"]
    timeless = re.sub(rb',"wall_[a-z_]+":[^,}]+', b"", (summary["folder"] / "events.jsonl").read_bytes())
    assert hashlib.sha256(timeless).hexdigest() == summary["tape_sha256"]


def test_same_config_and_seed_give_the_same_weights_and_event_log(run: Run) -> None:
    first, again, other = run(folder="a"), run(folder="b"), run("seed=1", folder="c")
    for key in ("weights_sha256", "tape_sha256", "val_bpb", "tokens", "rows"):
        assert first[key] == again[key]
    assert first["weights_sha256"] != other["weights_sha256"]
    assert first["tape_sha256"] != other["tape_sha256"]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("partition", ["iid", "source"])
def test_churn_loses_and_doubles_no_row(run: Run, seed: int, partition: str) -> None:
    summary = run(
        f"seed={seed}",
        "rounds=12",
        "clients=3",
        "volatility.crash_share=0.5",
        f"partition={partition}",
    )
    events = list(read_log(summary["folder"] / "events.jsonl"))
    assert any(isinstance(e, ClientDown) for e in events)
    assert sum(isinstance(e, ClientUp) for e in events) > 3  # some came back
    checked = audit(events)
    assert checked.violations == []
    assert not checked.open_leases
    rows = summary["rows"]
    assert (rows["lost"], rows["doubled"], rows["leased"]) == (0, 0, 0)
    assert rows["done"] == checked.rows_done
    assert rows["total"] == rows["done"] + rows["free"]


@pytest.mark.parametrize("runtime", ["virtual", "centralized"])
def test_best_fit_packing_loses_and_doubles_no_row(run: Run, runtime: str) -> None:
    overrides = (
        f"runtime={runtime}", "packing=best_fit", "packing.documents=2", "rounds=3", "clients=2", "optim=adamw",
        "strategy.local_steps=16", "volatility.mean_up_s=20",
        "volatility.crash_share=0.5", "model.sequence_len=64", "batch_size=4", "hardware.tokens_per_s=[256]",
    )  # fmt: skip
    summary, again = run(*overrides, folder="a"), run(*overrides, folder="b")
    assert (summary["weights_sha256"], summary["tape_sha256"]) == (again["weights_sha256"], again["tape_sha256"])
    assert summary["val_bpb"] < summary["val_bpb_initial"]
    events = list(read_log(summary["folder"] / "events.jsonl"))
    assert any(e.left for e in events if isinstance(e, UpdateFolded))
    checked = audit(events)
    assert checked.violations == []
    rows = summary["rows"]
    assert (rows["lost"], rows["doubled"], rows["leased"]) == (0, 0, 0)
    assert rows["done"] == checked.rows_done
    assert rows["done"] > 0


def test_a_event_log_of_plain_streaming_names_nothing_left(run: Run) -> None:
    event_log = (run()["folder"] / "events.jsonl").read_text()
    assert '"UpdateFolded"' in event_log
    assert '"left"' not in event_log


@pytest.mark.parametrize("optim", ["adamw", "muon_adamw"])
@pytest.mark.parametrize("strategy", ["fedavg", "diloco"])
def test_strategies_and_optimizers_learn(run: Run, strategy: str, optim: str) -> None:
    summary = run(f"strategy={strategy}", f"optim={optim}", "rounds=4")
    assert summary["strategy"] == strategy
    assert summary["val_bpb"] < summary["val_bpb_initial"] - 0.05


def test_lower_precision_learns_too(run: Run) -> None:
    summary = run("hardware.dtype=bfloat16", "rounds=4")
    assert summary["val_bpb"] < summary["val_bpb_initial"] - 0.05


def test_the_centralized_baseline_trains_as_many_tokens(run: Run) -> None:
    federated, central = run(folder="a"), run("runtime=centralized", folder="b")
    per_step = 4 * 2 * 16
    assert central["tokens"] == -(-federated["tokens"] // per_step) * per_step
    assert (central["strategy"], central["goodput"], central["clients"]) == (None, None, 1)
    assert central["val_bpb_initial"] == federated["val_bpb_initial"]
    assert central["val_bpb"] < central["val_bpb_initial"]
    checked = audit(read_log(central["folder"] / "events.jsonl"))
    assert checked.violations == []
    again = run("runtime=centralized", folder="c")
    assert (again["weights_sha256"], again["tape_sha256"]) == (central["weights_sha256"], central["tape_sha256"])


@pytest.mark.parametrize("runtime", ["virtual", "centralized"])
@pytest.mark.parametrize("checks", [0, 18, 22])
def test_an_interrupted_run_leaves_a_summary_and_a_checkpoint(run: Run, runtime: str, checks: int) -> None:
    summary = run(f"runtime={runtime}", store=StopsAfter(checks))
    folder = summary["folder"]
    assert summary["status"] == "interrupted"
    assert (summary["rows"]["leased"], summary["rows"]["lost"], summary["rows"]["doubled"]) == (0, 0, 0)
    assert summary["rounds"] < 3
    newest = max((folder / "checkpoints").iterdir())
    snapshot = Checkpoints.load(newest)
    assert tensors.digest(snapshot.state.weights) == summary["weights_sha256"]
    assert snapshot.progress.tokens == summary["tokens"]
    assert snapshot.clock <= summary["virtual_s"]
    assert Ledger.from_record(snapshot.ledger).counts() == summary["rows"]
    assert load_model(folder / "model").config.sequence_len == 16
    assert (folder / "report.html").exists()
    events = list(read_log(folder / "events.jsonl"))
    assert isinstance(events[-1], RunEnded)
    assert not audit(events).open_leases


def test_a_failing_run_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("fednano.training.local.LocalTrainer._step", broken)
    summary = run()
    assert summary["status"] == "failed"
    assert summary["tokens"] == 0


@pytest.mark.parametrize("runtime", ["virtual", "centralized"])
def test_a_loader_that_fails_ends_the_run_with_its_cause(
    run: Run, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(*args: object) -> None:
        raise OSError("shard torn")

    monkeypatch.setattr("fednano.data.shards.Corpus.texts", torn)
    outcomes = []
    monkeypatch.setattr("fednano.runtime.run_folder.summarise", lambda outcome, *_: outcomes.append(outcome) or {})
    run(f"runtime={runtime}")
    assert outcomes[0].status == "failed"
    assert "shard torn" in str(outcomes[0].error)
    assert isinstance(outcomes[0].error.__cause__, OSError)


def test_no_thread_outlives_a_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    run(store=StopsAfter(18), folder="stopped")
    assert set(threading.enumerate()) <= before

    def broken(*args: object) -> None:
        assert "fednano-ahead" in {thread.name for thread in threading.enumerate()}
        raise OSError("disk full")

    monkeypatch.setattr("fednano.training.local.LocalTrainer._step", broken)
    run("strategy.local_steps=40", folder="failed")
    assert set(threading.enumerate()) <= before


def test_a_diverging_client_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from fednano.training.local import LocalTrainer

    original = LocalTrainer._step

    def diverge(self: Any, *step: Any) -> float:
        loss = original(self, *step)
        if len(self._optimizers) == 2:  # while the second client has its turn
            torch.nn.init.constant_(self._model.resid_lambdas, float("nan"))
        return loss

    monkeypatch.setattr(LocalTrainer, "_step", diverge)
    summary = run("rounds=1", "volatility.mean_up_s=1e6")
    lines = [json.loads(line) for line in (summary["folder"] / "events.jsonl").read_text().splitlines()]
    assert [line["reason"] for line in lines if line["event"] == "UpdateRefused"] == ["non_finite"]
    assert summary["val_bpb"] < summary["val_bpb_initial"]


def test_a_diverged_baseline_leaves_strict_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from fednano.training.local import LocalTrainer

    monkeypatch.setattr(LocalTrainer, "_step", lambda self, *_: _poisoned(self))
    summary = run("runtime=centralized", "rounds=1")
    folder = summary["folder"]
    assert summary["status"] == "completed"
    assert summary["train_loss"] is None
    assert summary["val_bpb"] is None
    assert summary["val_bpb_initial"] > 0
    assert ("validation bits per byte", DIVERGED) in summary_lines(summary)
    lines = [
        json.loads(line, parse_constant=pytest.fail)
        for name in ("events.jsonl", "metrics.jsonl")
        for line in (folder / name).read_text().splitlines()
    ]
    assert [line["train_loss"] for line in lines if line.get("event") == "UpdateFolded"] == [None] * 4
    for path in (folder / "summary.json", *folder.glob("checkpoints/*/state.json")):
        json.loads(path.read_text(), parse_constant=pytest.fail)
    merged = [event for event in read_log(folder / "events.jsonl") if isinstance(event, RoundMerged)]
    assert math.isnan(merged[0].train_loss)
    assert read_history(folder / "events.jsonl").tape_sha256 == summary["tape_sha256"]
    # The first measurement stands in the chart alone.
    words = re.sub(r"<svg.*?</svg>", "", (folder / "report.html").read_text(), flags=re.DOTALL)
    assert f"{summary['val_bpb_initial']:.3f}" not in words
    assert f"{summary['val_bpb_initial']:.4f}" not in words


def _poisoned(trainer: Any) -> float:
    torch.nn.init.constant_(trainer._model.resid_lambdas, math.nan)
    return math.nan


def test_checkpoints_keep_the_newest(run: Run) -> None:
    summary = run("rounds=5", "checkpoint_every=1", "checkpoint_keep=2")
    names = sorted(p.name for p in (summary["folder"] / "checkpoints").iterdir())
    assert len(names) == 2
    assert (
        tensors.digest(load_file(summary["folder"] / "checkpoints" / names[-1] / "weights.safetensors"))
        == (summary["weights_sha256"])
    )
