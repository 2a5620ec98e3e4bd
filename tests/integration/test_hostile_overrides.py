"""Hostile overrides of every key: each is answered by a run that may begin, or by one line that names the key."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.mutations import Mutation, TooLongError, apply, composed_all, limited, mutations, sample

from fednano.config import build
from fednano.coordination.memory import MemoryStore
from fednano.core.progress import Silent
from fednano.experiment.experiment import Experiment
from fednano.experiment.groups import GROUPS
from fednano.runtime.play_through import check_traces

LIMIT_S = 20.0  # what hangs takes far longer, and the cores may be shared
LONGEST_LINE = 400
SAMPLE = 220


@pytest.fixture
def made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups with settings that came before are not built again, which takes most of a case's time."""
    make, made = build._made, dict[str, Any]()

    def remembered(value: Any, group: str, node: dict[str, Any], place: str) -> Any:
        if place:
            return make(value, group, node, place)
        key = f"{group} {json.dumps(node)}"
        if key not in made:
            made[key] = make(value, group, node, place)
        return made[key]

    monkeypatch.setattr(build, "_made", remembered)


@pytest.fixture
def everything(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_once: None) -> "Cases":
    monkeypatch.chdir(tmp_path)
    return Cases([*tiny, "runtime.compute=analytic"])


class Cases:
    """All mutations, and what becomes of one."""

    def __init__(self, tiny: list[str]) -> None:
        self._tiny = tiny
        self._composed = composed_all(tiny, GROUPS)

    def __iter__(self) -> Iterator[Mutation]:
        for base, cfg in self._composed.items():
            yield from mutations(cfg, base, GROUPS)

    def fault(self, mutation: Mutation) -> str:
        """What is wrong with the answer to a mutation; empty if nothing is."""
        try:
            with limited(LIMIT_S):
                experiment = Experiment(apply(self._composed[mutation.base], mutation, self._tiny))
                if not any(word.startswith("data=") for word in mutation.base):  # others are not prepared in a test
                    check_traces(experiment.parts(experiment.prepare(Silent()), MemoryStore()))
        except TooLongError:
            return f"{mutation}: no answer within {LIMIT_S:g} s"
        except ValueError as error:
            return self._unclear(mutation, str(error))
        except Exception as error:
            return f"{mutation}: {type(error).__name__}: {str(error)[:200]}"
        return ""

    @staticmethod
    def _unclear(mutation: Mutation, line: str) -> str:
        words = (mutation.key.rpartition(".")[2], mutation.key.partition(".")[0])
        if "\n" in line or len(line) > LONGEST_LINE:
            return f"{mutation}: not one line: {line[:200]}"
        return "" if any(word in line for word in words) else f"{mutation}: no key in: {line}"


def test_hostile_overrides_are_answered(everything: Cases) -> None:
    chosen = sample(list(everything), SAMPLE)
    assert len(chosen) >= SAMPLE
    faults = [fault for mutation in chosen if (fault := everything.fault(mutation))]
    assert not faults, "\n".join(faults)


@pytest.mark.slow
def test_all_hostile_overrides_are_answered(everything: Cases) -> None:
    faults = [fault for mutation in everything if (fault := everything.fault(mutation))]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["strategy.outer=null"], "strategy.outer must be an object with a _target_, as Outer asks for, got null"),
        (["clients=???"], "clients is not set; add clients=VALUE"),
        (["~rounds"], "rounds must be set, got ~rounds, which deletes it; leave ~rounds out"),
        (["+optim.matrix_l=1"], "optim.matrix_l=1 sets a key that MuonAdamW does not have; use one of matrix_lr, "),
        (["data.partition=0"], "data.partition must be an object with a _target_"),
        (["volatility=spot", "volatility.shape=1e-300"], "volatility.shape must be >= 0.05, got 1e-300; use 0.05"),
        (["volatility.mean_down_s=1e300"], "volatility.mean_down_s must be <= 1e+10, got 1e+300; use 1e+10 or less"),
        (["clients=10000000"], "clients must be <= 100000, got 10000000; use 100000 or less"),
        (["model.depth=10000"], "model.depth must be <= 1000, got 10000; use 1000 or less"),
        (["model.depth=400"], "model.depth must fit into memory, got 400, with which the run needs about "),
        (["batch_size=1000000000"], "batch_size must fit into memory, got 1000000000, with which the run needs about"),
        (["clients=100000", "batch_size=1"], "clients must fit into memory, got 100000, with which the run needs"),
        (["strategy.local_steps=1000000000000"], "strategy.local_steps must be <= 1000000000, got 1000000000000; use"),
        (["strategy.local_steps=1000000000"], "strategy.local_steps must be <= 208333333 with rounds=12 and clients=4"),
        ([f"rounds={10**60}"], f"rounds must fit into 64 bits, got 1{'0' * 19}…{'0' * 20} (61 digits); use less"),
        ([f"rounds={10**24}"], "rounds must fit into 64 bits, got 1000000000000000000000000; use less"),
        (["rounds=1000000000"], "rounds must be <= 25000000 with clients=4, got 1000000000; use fewer"),
        (["hardware.threads=1000000"], "hardware.threads must be <= 4096, got 1000000; use 4096 or less"),
        (["name=.."], "name must be a valid folder name, got ..; use letters, digits and dashes, and no dot in front"),
        (["name=.hidden"], "name must be a valid folder name, got .hidden; "),
        (["optim.matrix_lr=nan"], "optim.matrix_lr must be 0, or 1e-12 to 1e+15 in size, got nan; "),
        (["budget=0"], "budget must hold keys, got 0; set budget.tokens, "),
        (["model=null"], "model must be the name of a choice, got null; use one of d10, "),
        (["rounds=${nope}"], "rounds must refer to values that exist, got ${nope} (Interpolation key 'nope' not found"),
        ([f"hardware.device={'x' * 5000}"], "hardware.device must have at most 4096 characters, got 5000; shorten it"),
    ],
)
def test_the_line_says_what_is_wrong(overrides: list[str], line: str) -> None:
    from fednano.config.compose import compose_config

    with pytest.raises(ValueError) as caught:
        Experiment(compose_config(overrides))
    assert str(caught.value).startswith(line)
