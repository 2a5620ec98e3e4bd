"""Every volatility choice through the whole protocol, without tensors."""

import pytest

from fednano.cli import compose_config, conf_dir
from fednano.coordination.memory import MemoryBoard
from fednano.data.progress import Silent
from fednano.experiment import Experiment
from fednano.runtime.parts import Parts
from fednano.runtime.virtual import planned_tokens

CHOICES = sorted(p.stem for p in (conf_dir() / "volatility").glob("[!_]*.yaml"))
NETWORKS = sorted(p.stem for p in (conf_dir() / "network").glob("[!_]*.yaml"))


def parts_of(tiny: list[str], *overrides: str) -> Parts:
    general = [override for override in tiny if not override.startswith("volatility.")]
    experiment = Experiment(compose_config([*general, *overrides]))
    return experiment.parts(experiment.prepare(Silent()), MemoryBoard())


@pytest.mark.parametrize("choice", CHOICES)
def test_every_profile_plays_through_the_protocol(tiny: list[str], choice: str) -> None:
    parts = parts_of(tiny, f"volatility={choice}", "clients=5", "rounds=40")
    tokens = planned_tokens(parts, 1000)
    assert tokens >= 5 * parts.tokens_per_step
    assert tokens == planned_tokens(parts, 1000)
