"""Every volatility choice through the whole protocol, without tensors."""

import numpy as np
import pytest

from fednano.config.compose import compose_config, conf_dir
from fednano.coordination.memory import MemoryStore
from fednano.core.clock import VirtualClock
from fednano.core.progress import Silent
from fednano.data.loader import Batch
from fednano.experiment.experiment import Experiment
from fednano.federation.transport import MessageBytes
from fednano.runtime.beginning import local_trainer, untrained
from fednano.runtime.parts import Parts
from fednano.runtime.play_through import planned_tokens
from fednano.training.local import StepPlan

CHOICES = sorted(p.stem for p in (conf_dir() / "volatility").glob("[!_]*.yaml"))
NETWORKS = sorted(p.stem for p in (conf_dir() / "network").glob("[!_]*.yaml"))

SIZE = MessageBytes(down=1000, up=1000)


def parts_of(tiny: list[str], *overrides: str) -> Parts:
    general = [override for override in tiny if not override.startswith("volatility.")]
    experiment = Experiment(compose_config([*general, *overrides]))
    return experiment.parts(experiment.prepare(Silent()), MemoryStore())


@pytest.mark.parametrize("choice", CHOICES)
def test_every_profile_plays_through_the_protocol(tiny: list[str], choice: str) -> None:
    parts = parts_of(tiny, f"volatility={choice}", "clients=5", "rounds=40")
    tokens = planned_tokens(parts, SIZE)
    assert tokens >= 5 * parts.tokens_per_step
    assert tokens == planned_tokens(parts, SIZE)


@pytest.mark.parametrize("choice", NETWORKS)
def test_every_network_plays_through_the_protocol(tiny: list[str], choice: str) -> None:
    parts = parts_of(tiny, "volatility=markov", f"network={choice}", "clients=4", "rounds=10")
    assert planned_tokens(parts, SIZE) == planned_tokens(parts, SIZE) > parts.tokens_per_step


def test_a_live_run_without_rounds_is_planned_without_waiting_at_checkpoints(tiny: list[str]) -> None:
    """One update a merge; every fourth and the last of a run on a virtual clock take one of each client."""
    parts = parts_of(tiny, "volatility=none", "strategy=async_diloco", "clients=4", "rounds=8", "checkpoint_every=4")
    task = 4 * parts.tokens_per_step
    assert planned_tokens(parts, SIZE) == (3 + 4 + 3 + 4) * task
    assert planned_tokens(parts, SIZE, live=True) == (7 + 4) * task


def test_stragglers_take_longer_and_the_fast_wait_for_none(tiny: list[str]) -> None:
    """With all clients at half speed throughout, a round takes twice as long and merges the same tokens."""
    runs = [parts_of(tiny, "volatility=straggler", f"volatility.sigma={s}", "rounds=6") for s in (0, 1.5)]
    full, slowed = [planned_tokens(parts, SIZE) for parts in runs]
    assert full == 6 * 4 * 4 * runs[0].tokens_per_step
    assert slowed < full  # who is not in when the round closes is left out


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["volatility=trace", "volatility.threshold=0"], "volatility.threshold=0 never opens column almeria"),
        (["volatility=trace", "volatility.columns=[berlin]"], "synthetic_carbon.csv has no column berlin; it has time"),
        (
            ["volatility=trace", "volatility.on_gap=skip"],
            "volatility.on_gap must be hold, down or error, got skip",
        ),
        (["volatility=markov", "volatility.exit=jump"], "volatility.exit must be drain, crash or mixed, got jump"),
        (
            ["volatility=compose", "volatility.parts.machine.mean_up_s=0"],
            r"volatility\.parts\.machine\.mean_up_s must be >= 0.001, got 0; use 0.001 or more",
        ),
        (["volatility=compose", "+volatility.parts.machine.life=3"], "volatility.parts.machine.life=3 sets a key"),
        (
            ["volatility=compose", "volatility.parts.machine=3"],
            "volatility.parts.machine must be an object with a _target_",
        ),
        (["volatility=trace", "volatility.columns={client_0: almeria}"], "names no column for client_1"),
        (["network=flaky", "network.jitter_s=[a]"], r"jitter_s must be a number or a list .*, got \['a'\]"),
    ],
)
def test_bad_settings_are_refused_in_a_line(tiny: list[str], overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parts_of(tiny, *overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["volatility=trace", "volatility.speedup=1e4", "rounds=200"], r"ends 1,209,600 s after .*on_end=repeat"),
        (["volatility=intervals", "volatility.on_end=down", "rounds=500"], "no client is ever up after .* s"),
    ],
)
def test_what_only_the_plan_of_a_run_shows_is_refused_too(tiny: list[str], overrides: list[str], message: str) -> None:
    parts = parts_of(tiny, "rounds=40", *overrides)
    with pytest.raises(ValueError, match=message):
        planned_tokens(parts, SIZE)


def test_a_step_takes_what_the_speed_at_its_beginning_makes_of_it(tiny: list[str]) -> None:
    parts = parts_of(tiny)
    ids = np.zeros(parts.shape, dtype=np.int64)
    batches = [Batch(ids, ids, (k, 0)) for k in range(4)]
    asked: list[float] = []
    clock = VirtualClock()
    plan = StepPlan(
        steps=4,
        step_s=10.0,
        tokens_before=0,
        tokens_per_step=ids.size,
        horizon=1000,
        speed=lambda t: 1.0 if t < 15 else 0.5,
    )
    local_trainer(parts, ids.size).run(
        "a", untrained(parts), batches, plan, clock, lambda s: asked.append(s) is None, lambda *_: None
    )
    assert asked == [10, 10, 20, 20]
    assert clock.now() == 60


def test_parts_are_chosen_on_the_command_line(tiny: list[str]) -> None:
    parts = parts_of(
        tiny, "volatility=compose", "volatility@volatility.parts.power=diurnal", "~volatility@volatility.parts.machine"
    )
    assert [part.name for part in parts.volatility.parts.values()] == ["diurnal", "straggler"]
