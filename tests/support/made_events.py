"""Events with only the fields that a test is about; the others are small numbers that mean nothing."""

from typing import Any

from fednano.core.events import RoundMerged, UpdateFolded


def update_folded(**fields: Any) -> UpdateFolded:
    """An accumulated update of one step of client a."""
    rest: dict[str, Any] = {
        "t": 1.0,
        "round": 0,
        "client": "a",
        "lease": 0,
        "version": 0,
        "steps": 1,
        "tokens": 1,
        "row": 0,
        "token": 0,
        "weight": 1.0,
        "norm": 1.0,
        "train_loss": 1.0,
        "drained": False,
        "bytes": 1,
        "busy_from": 0.0,
        "busy_until": 1.0,
    }
    return UpdateFolded(**{**rest, **fields})


def round_merged(*leases: int, **fields: Any) -> RoundMerged:
    """A merge of the updates under these leases, into version 1."""
    rest: dict[str, Any] = {
        "t": 1.0,
        "round": 0,
        "version": 1,
        "steps": 1,
        "tokens": 1,
        "tokens_total": 1,
        "norm": 1.0,
        "train_loss": 1.0,
        "lr_scale": 1.0,
    }
    return RoundMerged(leases=leases, **{**rest, **fields})
