"""The outcome of a run that another process writes, from its summary."""

from collections.abc import Mapping
from typing import Any

from fednano.runtime.session import Outcome, Status
from fednano.strategy.base import ServerState
from fednano.training.recorder import RunProgress


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
