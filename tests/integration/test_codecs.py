"""Whole runs with each codec: they train, submit fewer bytes, and keep residuals through an interruption."""

from collections.abc import Callable
from typing import Any

import pytest
from support.runs import StopsAfter, assert_same

Run = Callable[..., dict[str, Any]]

STEADY = ("clients=2", "volatility.mean_up_s=100000", "strategy.local_steps=8")
FEEDBACK = ("codec.error_feedback=true", "codec.decay=0.9")


@pytest.mark.parametrize(
    ("words", "share"),  # of the bytes of the weights, which travel as float32
    [
        (("codec=bf16",), 1 / 2),
        (("codec=int8", "codec.rounding=stochastic"), 1 / 4),
        (("codec=int4", *FEEDBACK), 1 / 8),
        (("codec=int2", *FEEDBACK), 1 / 16),
        (("codec=topk",), 7 / 1024),
    ],
)
def test_a_run_learns_with_fewer_bytes(run: Run, words: tuple[str, ...], share: float) -> None:
    summary = run(*STEADY, *words)
    assert summary["status"] == "completed" and summary["rows"]["lost"] == summary["rows"]["doubled"] == 0
    assert summary["val_bpb"] < summary["val_bpb_initial"]
    # The fixed part of a message, and scales, levels and small tensors, come on top.
    assert 0 < summary["bytes"]["up"] < (share + 0.05) * summary["bytes"]["down"]


CHURN = ("codec=int4", *FEEDBACK, "codec.rounding=stochastic", "clients=3", "volatility.crash_share=0.5", "rounds=6")


def test_a_resumed_run_ends_like_a_whole_one(run: Run) -> None:
    """With its residuals, and with the same random numbers for tensors that come in another order."""
    options = (*CHURN, "checkpoint_every=2", "eval_every=3")
    whole = run(*options)
    assert run(*options, store=StopsAfter(17), folder="stopped")["status"] == "interrupted"
    assert_same(run(*options, folder="stopped", resume=True), whole)
