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
        (("strategy=sparseloco", "codec=topk"), 7 / 1024),
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


def test_weights_travel_as_download_says(run: Run) -> None:
    """With bfloat16 they take half the bytes; clients start from other weights, and the run still learns."""
    whole = run(*STEADY, folder="fp32")
    halved = run(*STEADY, "codec@download=bf16", folder="bf16")
    assert halved["bytes"] == {"down": whole["bytes"]["down"] // 2, "up": whole["bytes"]["up"]}
    assert halved["weights_sha256"] != whole["weights_sha256"]
    assert halved["val_bpb"] == pytest.approx(whole["val_bpb"], rel=0.01)
    assert halved["virtual_s"] < whole["virtual_s"]


def test_downloads_rounded_at_random_are_replayed_and_resumed(run: Run) -> None:
    options = (*CHURN, "codec@download=int8", "download.rounding=stochastic", "checkpoint_every=2")
    whole = run(*options)
    assert run(*options, store=StopsAfter(17), folder="stopped")["status"] == "interrupted"
    assert_same(run(*options, folder="stopped", resume=True), whole)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("codec@download=topk",), "codec@download must encode every weight, got topk"),
        (("codec@download=topk", "download.error_feedback=false", "download.decay=1.0"), "must encode every weight"),
        (("codec@download=int4", "download.block=3"), r"^download\.block must be a power of two"),
        (("download.error_feedback=true",), r"download\.error_feedback"),
    ],
)
def test_codecs_that_do_not_suit_what_they_are_used_for(run: Run, words: tuple[str, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        run(*words)
