"""An outer optimizer of the user's own that fails, is preempted or is killed in a sweep, as files in its folder say."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from fednano.core.tensors import State
from fednano.strategy.outer.nesterov import Nesterov

FAILING = 0.6  # the momentum of the job that something happens to
SIGNALS = {"preempted": signal.SIGUSR2, "killed": signal.SIGKILL}


@dataclass(frozen=True)
class Swept(Nesterov):
    """Nesterov's, which writes down how many threads it has."""

    def step(self, weights: State, outer: State, delta: State, scale: float = 1.0) -> tuple[State, State]:
        Path(f"threads_{self.momentum}").write_text(str(torch.get_num_threads()))
        if outer and self.momentum == FAILING:  # not in the first round
            if Path("broken").exists():
                raise RuntimeError("no such luck")
            for name, number in SIGNALS.items():
                if Path(name).exists():
                    Path(name).unlink()
                    os.kill(os.getpid(), number)
        return super().step(weights, outer, delta, scale)


def misspelt(_: DictConfig, trial: Any) -> None:
    """A search space of Optuna's that has a key which does not exist."""
    trial.suggest_float("strategy.outer.momentun", 0.5, 0.9)
