"""Inner steps on one client: up to H of them, with a check before each whether to go on."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from fednano.clock import Clock, Stopwatch
from fednano.data.ahead import Ahead
from fednano.data.ledger import Position, Span
from fednano.data.loader import Batch
from fednano.model.gpt import GPT
from fednano.optim.inner import InnerOptimizer, Optim
from fednano.tensors import State
from fednano.training.hardware import Hardware

MayStep = Callable[[float], bool]
"""Given the seconds a step takes: may it begin? False makes the client drain."""

Speed = Callable[[float], float]
"""The share of its hardware's speed that a client has at a time of its clock."""

OnStep = Callable[[int, float], None]
"""Told the number of steps done and the loss of the last; raises to stop the run."""


def full_speed(t: float) -> float:
    """The `Speed` of a client that is as fast as its hardware."""
    return 1.0


class Trainer(Protocol):
    """Takes inner steps for the clients of one process."""

    def run(
        self,
        client: str,
        weights: State,
        batches: Iterable[Batch],
        plan: "StepPlan",
        clock: Clock,
        may_step: MayStep,
        on_step: OnStep,
    ) -> tuple["StepsDone", State]:
        """Up to `plan.steps` steps from `weights`: what was done, and the local weights."""

    def forget(self, client: str) -> None:
        """Drop what is remembered for a client between rounds."""


@dataclass(frozen=True)
class StepPlan:
    """What to do: at most `steps` inner steps of `step_s` seconds each at full speed.

    The learning rate of step k is scheduled at `tokens_before + k · tokens_per_step` global tokens of `horizon`.
    """

    steps: int
    step_s: float
    tokens_before: int
    tokens_per_step: int
    horizon: int
    speed: Speed = full_speed

    def seconds(self, begins: float) -> float:
        """Seconds that a step takes: what the speed at its beginning makes of `step_s`."""
        return self.step_s / self.speed(begins)


@dataclass(frozen=True)
class StepsDone:
    """What was done: `loss` is the mean over the steps in nats per token, NaN after none; `cursor` None after none.

    `left` are spans before the cursor that stay untrained. Of the `train_s` wall-clock seconds, `data_s` were spent
    waiting for batches.
    """

    steps: int
    tokens: int
    loss: float
    cursor: Position | None
    drained: bool
    train_s: float
    data_s: float = 0.0
    left: tuple[Span, ...] = ()


class LocalTrainer:
    """One model in this process, and the inner optimizer state of every client that trains here."""

    def __init__(self, model: GPT, optim: Optim, hardware: Hardware, batch_tokens: int) -> None:
        self._device = hardware.use()
        self._model = model.to(self._device)
        self._loss = torch.compile(self._model) if hardware.compile else self._model
        self._optim = optim
        self._batch_tokens = batch_tokens
        self._hardware = hardware
        self._optimizers: dict[str, InnerOptimizer] = {}
        # Wall-clock seconds inside inner steps, and of those waiting for batches; also of work that was lost.
        self.train_s = self.data_s = 0.0

    def forget(self, client: str) -> None:
        """Drop a client's optimizer state, as its machine did when it crashed."""
        self._optimizers.pop(client, None)

    def run(
        self,
        client: str,
        weights: State,
        batches: Iterable[Batch],
        plan: StepPlan,
        clock: Clock,
        may_step: MayStep,
        on_step: OnStep,
    ) -> tuple[StepsDone, State]:
        """Train from `weights`; returns what was done and the local weights, which the trainer still owns."""
        self._model.load_state_dict(weights)
        self._model.train()
        optimizer = self._optimizer(client)
        stopwatch, waiting = Stopwatch(), Stopwatch()
        steps = tokens = 0
        loss_sum = 0.0
        last: Batch | None = None
        drained = False
        with Ahead(islice(batches, plan.steps)) as source:
            while steps < plan.steps:
                step_s = plan.seconds(clock.now())
                if not may_step(step_s):
                    drained = True
                    break
                with stopwatch:
                    with waiting:
                        batch = next(source, None)
                    if batch is None:
                        break
                    at = plan.tokens_before + steps * plan.tokens_per_step
                    loss = self._step(optimizer, batch, self._optim.schedule.scale(at, plan.horizon))
                clock.charge(step_s)
                self.train_s += stopwatch.lap()
                self.data_s += waiting.lap()
                steps, tokens, last = steps + 1, tokens + batch.tokens.size, batch
                loss_sum += loss
                on_step(steps, loss)
        mean = loss_sum / steps if steps else math.nan
        cursor, left = (last.cursor, last.left) if last else (None, ())
        local = {name: tensor.cpu() for name, tensor in self._model.state_dict().items()}
        return StepsDone(steps, tokens, mean, cursor, drained, stopwatch.seconds, waiting.seconds, left), local

    def _optimizer(self, client: str) -> InnerOptimizer:
        if self._optim.state == "reset" or client not in self._optimizers:
            self._optimizers[client] = self._optim.build(self._model, self._batch_tokens)
        return self._optimizers[client]

    def _step(self, optimizer: InnerOptimizer, batch: Batch, lr_scale: float) -> float:
        tokens, targets = self._to_device(batch)
        with self._hardware.autocast():
            loss: Tensor = self._loss(tokens, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step(lr_scale)
        return float(loss.detach())

    def _to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        pair = torch.from_numpy(batch.tokens.copy()), torch.from_numpy(batch.targets.copy())
        if self._device.type == "cuda":
            pair = pair[0].pin_memory(), pair[1].pin_memory()
        return pair[0].to(self._device, non_blocking=True), pair[1].to(self._device, non_blocking=True)
