"""The local trainer: up to H inner steps on one client, with a check before each step."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Protocol

import torch
from msgspec import Struct
from torch import Tensor

from fednano.core.clock import Clock, Stopwatch
from fednano.core.tensors import State
from fednano.data.ledger import Position, Span
from fednano.data.loader import IGNORE, Batch
from fednano.data.prefetch import Ahead
from fednano.model.gpt import GPT
from fednano.model.loss import SliceLoss, slice_loss
from fednano.optim.inner import InnerOptimizer, Optim
from fednano.strategy.client_part import LocalRule
from fednano.training.client_memory import ClientMemory, joined, without_kept
from fednano.training.hardware import Hardware
from fednano.training.replicas import Replicas

MayStep = Callable[[float], bool]
"""Whether a step of this many seconds may begin. False makes the client drain."""

SpeedAt = Callable[[float], float]
"""Maps a time on the client's clock to its fraction of the hardware's full speed."""

AfterStep = Callable[[int, float], None]
"""Called with the number of steps done and the loss of the last; raises to stop the run."""


def full_speed(t: float) -> float:
    """The `SpeedAt` of a client that always runs at full speed."""
    return 1.0


class Trainer(Protocol):
    """Takes inner steps for the clients of one process. `memory` holds their other kept tensors."""

    @property
    def memory(self) -> ClientMemory: ...

    def run(
        self,
        client: str,
        weights: State,
        batches: Iterable[Batch],
        plan: "StepPlan",
        clock: Clock,
        may_step: MayStep,
        after_step: AfterStep,
    ) -> tuple["StepsDone", State]:
        """Take up to `plan.steps` steps from `weights`; returns what was done and the local weights."""

    def forget(self, client: str) -> None:
        """Drop the state that a client keeps between rounds."""


class StepPlan(Struct, frozen=True, kw_only=True):
    """The steps to take: at most `steps` inner steps of `step_s` seconds each at full speed.

    The learning rate of step k is scheduled at `tokens_before + k · tokens_per_step` global tokens of `horizon`.
    Before `quiet_until` the server does not ask the client to submit. `inner` is the clients' mean optimizer state to
    begin with, if they have one. `rule` is the strategy's part in the steps.
    """

    steps: int
    step_s: float
    tokens_before: int
    tokens_per_step: int
    horizon: int
    inner: State = {}
    speed: SpeedAt = full_speed
    quiet_until: float = math.inf
    rule: LocalRule | None = None

    def seconds(self, begins: float) -> float:
        """Seconds of a step that begins at this time: `step_s` over the speed at its beginning."""
        return self.step_s / self.speed(begins)


class StepsDone(Struct, frozen=True, kw_only=True):
    """The steps taken. `loss` is their mean in nats per token; without steps it is NaN, and `cursor` is None.

    `left` are spans before the cursor that stay untrained. Of the `train_s` wall-clock seconds, `data_s` were spent
    waiting for batches. `inner` is the optimizer's state after the last step if clients average theirs.
    """

    steps: int
    tokens: int
    loss: float
    cursor: Position | None
    drained: bool
    train_s: float
    data_s: float = 0.0
    left: tuple[Span, ...] = ()
    inner: State = {}


def compile_model(model: GPT) -> Callable[[Tensor, Tensor], Tensor]:
    """The model's loss under torch.compile; (B, T) tokens and targets → scalar.

    On CPU only the blocks are compiled, one at a time. Blocks of one kind share their code, so depth costs no extra
    compilation, and the loss has nothing to fuse. Elsewhere everything up to the head is one graph, and one slice of
    the loss another: as part of the first graph, the loop over slices would be unrolled.
    """
    if model.head.weight.device.type == "cpu":
        for block in model.blocks:
            block.compile(dynamic=False)
        return model
    return compile_apart(model)


def compile_apart(model: GPT) -> Callable[[Tensor, Tensor], Tensor]:
    """As `compile_model` does for a GPU."""
    features = torch.compile(model.features, dynamic=False)
    of_slice: SliceLoss = torch.compile(slice_loss, dynamic=False)

    def loss(tokens: Tensor, targets: Tensor) -> Tensor:
        return model.loss(features(tokens), targets, of_slice)

    return loss


class LocalTrainer:
    """One model in this process, and the inner optimizer state of every client that trains here.

    Args:
        model: its weights do not matter, since every run loads its own.
        optim: builds the optimizers.
        hardware: the device to compute on.
        batch_tokens: tokens of a step, over all ranks.
        replicas: the ranks that take every step together.
        split_rows: whether each rank takes its share of a batch's rows; otherwise it gets batches of its own.
    """

    def __init__(
        self,
        *,
        model: GPT,
        optim: Optim,
        hardware: Hardware,
        batch_tokens: int,
        replicas: Replicas | None = None,
        split_rows: bool = True,
    ) -> None:
        self._replicas = replicas or Replicas()
        self._split_rows = split_rows
        self._device = hardware.use()
        hardware.repeat_exactly()
        self._model = model.to(self._device)
        self._loss = compile_model(self._model) if hardware.compile else self._model
        self._optim = optim
        self._batch_tokens = batch_tokens
        self._hardware = hardware
        self._optimizers: dict[str, InnerOptimizer] = {}
        self._copies: dict[str, State] = {}  # of the optimizers' states that have not changed since
        # Wall-clock seconds inside inner steps, and those of them spent waiting for batches; includes lost work.
        self.train_s = self.data_s = 0.0
        self.memory = ClientMemory()

    def forget(self, client: str) -> None:
        """Drop all state of a client, as a crash does."""
        self.memory.forget(client)
        self._optimizers.pop(client, None)
        self._copies.pop(client, None)

    def state(self, client: str) -> State | None:
        """A client's optimizer state, not copied; None if it does not outlive a round."""
        if self._optim.state == "reset" or client not in self._optimizers:
            return None
        return self._optimizers[client].state()

    def states(self) -> dict[str, State]:
        """The state that each client keeps between rounds, on the CPU: its optimizer's and its other kept tensors.

        Optimizer states are copied; those unchanged since the last call are not copied again.
        """
        if self._optim.state == "reset":
            return self.memory.states()
        for client, optimizer in self._optimizers.items():
            if client not in self._copies:
                self._copies[client] = {name: value.cpu().clone() for name, value in optimizer.state().items()}
        return joined(self._copies, self.memory.states())

    def restore(self, states: Mapping[str, State], train_s: float, data_s: float) -> None:
        """Restore the states of clients, the seconds inside steps, and those of them waiting for batches."""
        self.train_s, self.data_s = train_s, data_s
        for client, state in states.items():
            self.memory.restore(client, state)
            if optimizer := without_kept(state):
                self._optimizers[client] = self._built()
                self._optimizers[client].load(optimizer)

    def run(
        self,
        client: str,
        weights: State,
        batches: Iterable[Batch],
        plan: StepPlan,
        clock: Clock,
        may_step: MayStep,
        after_step: AfterStep,
    ) -> tuple[StepsDone, State]:
        """Train from `weights`; returns what was done and the local weights, which the trainer still owns."""
        self._model.load_state_dict(weights)
        self._model.train()
        optimizer = self._optimizer(client)
        if plan.inner:
            optimizer.load(plan.inner)
        rule = plan.rule.to(self._device) if plan.rule else None
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
                        batch = self._next(source)
                    share = self._replicas.share(None if batch is None else int((batch.targets != IGNORE).sum()))
                    if batch is None or share is None:
                        break
                    at = plan.tokens_before + steps * plan.tokens_per_step
                    loss = self._step(optimizer, batch, share, self._optim.schedule.scale(at, plan.horizon), rule)
                clock.charge(step_s)
                self.train_s += stopwatch.lap()
                self.data_s += waiting.lap()
                steps, last = steps + 1, batch
                tokens += batch.tokens.size * self._replicas.world
                loss_sum += loss
                after_step(steps, loss)
        mean = loss_sum / steps if steps else math.nan
        cursor, left = (last.cursor, last.left) if last else (None, ())
        local = {name: tensor.cpu() for name, tensor in self._model.state_dict().items()}
        inner = {name: value.cpu() for name, value in optimizer.state().items()} if plan.inner else {}
        done = StepsDone(
            steps=steps,
            tokens=tokens,
            loss=mean,
            cursor=cursor,
            drained=drained,
            train_s=stopwatch.seconds,
            data_s=waiting.seconds,
            left=left,
            inner=inner,
        )
        return done, local

    def _optimizer(self, client: str) -> InnerOptimizer:
        self._copies.pop(client, None)
        if self._optim.state == "reset" or client not in self._optimizers:
            self._optimizers[client] = self._built()
        return self._optimizers[client]

    def _built(self) -> InnerOptimizer:
        optimizer = self._optim.build(self._model, self._batch_tokens)
        if self._hardware.compile and self._device.type != "cpu":
            optimizer.compile()
        return optimizer

    def _next(self, source: Iterator[Batch]) -> Batch | None:
        batch = next(source, None)
        if batch is None or not self._split_rows:
            return batch
        return replace(batch, tokens=self._replicas.mine(batch.tokens), targets=self._replicas.mine(batch.targets))

    def _step(
        self, optimizer: InnerOptimizer, batch: Batch, share: float, lr_scale: float, rule: LocalRule | None
    ) -> float:
        """Take one inner step; returns the loss of its batch, without a rule's term."""
        tokens, targets = self._to_device(batch)
        with self._hardware.autocast():
            loss: Tensor = self._loss(tokens, targets)
        named = dict(self._model.named_parameters()) if rule else {}
        term = rule.loss(named) if rule else None
        (loss if term is None else loss + term).backward()  # type: ignore[no-untyped-call]
        self._replicas.average(self._model.parameters(), share)
        if rule:
            rule.gradients(named)
        with self._hardware.autocast_step():
            optimizer.step(lr_scale)
        # Last, since reading the loss waits for the device, which by now has all of the step's work queued.
        return self._replicas.mean(loss.detach(), share)

    def _to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        pair = torch.from_numpy(batch.tokens.copy()), torch.from_numpy(batch.targets.copy())
        if self._device.type == "cuda":
            pair = pair[0].pin_memory(), pair[1].pin_memory()
        return pair[0].to(self._device, non_blocking=True), pair[1].to(self._device, non_blocking=True)
