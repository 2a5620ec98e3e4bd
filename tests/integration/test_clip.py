"""Runs whose inner steps clip their gradients."""

from collections.abc import Callable
from typing import Any

import pytest

ALWAYS_UP = ("volatility.mean_up_s=1e9", "volatility.mean_down_s=1e-3")

Run = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("runtime", ["virtual", "centralized"])
def test_runs_clip(run: Run, runtime: str) -> None:
    options = (f"runtime={runtime}", "rounds=1", *ALWAYS_UP, "optim=adamw")
    plain = run(*options, folder="plain")
    assert run(*options, "optim.clip=1e9", folder="free")["weights_sha256"] == plain["weights_sha256"]
    assert run(*options, "optim.clip=0.3", folder="clipped")["weights_sha256"] != plain["weights_sha256"]


@pytest.mark.slow
def test_workers_clip_as_one_process_does(run: Run) -> None:
    options = ("rounds=2", *ALWAYS_UP, "optim.clip=0.3", "clients=2")
    one = run(*options, folder="one")
    assert run(*options, "hardware.workers=2", folder="two")["weights_sha256"] == one["weights_sha256"]
