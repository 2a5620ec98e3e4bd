"""The process of one contender: reads jobs as lines of JSON from its input, and answers each with one line."""

import json
import os
import sys
from dataclasses import replace
from typing import Any

import torch

from fednano.bench.train_step.contenders import CONTENDERS, Setting, StepContender
from fednano.bench.train_step.device import Device, rows_that_fill
from fednano.bench.train_step.split import StepSplit
from fednano.core.clock import Stopwatch, wall
from fednano.model.loss import softcap_cross_entropy

PRODUCTS = 8  # of a GPU, timed together: one takes less than a millisecond
PROBES = 1, 2  # rows of the steps that tell how memory grows
TRIES = 4  # of numbers of rows that should fill the device
LOGITS = 1 << 28  # entries, at most, of the full logits that the loss is compared with


class StepSession:
    """One contender. Each public method is a job and returns its answer."""

    def __init__(self, name: str, setting: Setting) -> None:
        torch.set_num_threads(setting.threads)
        self._setting = setting
        self._device = Device(setting.device)
        self._contender: StepContender = CONTENDERS[name](setting)
        self._batch = setting.batch()
        dtype = torch.bfloat16 if self._device.is_gpu and setting.dtype == "bfloat16" else torch.float32
        self._square = torch.ones(self._device.square, self._device.square, dtype=dtype, device=setting.device)

    def step(self, eager: bool = False) -> dict[str, Any]:
        """One step: seconds of its three parts, and the loss before it."""
        self._device.wait()
        begin = wall()
        loss = self._contender.loss(*self._batch, eager=eager)
        forward = self._now()
        loss.backward()  # type: ignore[no-untyped-call]
        backward = self._now()
        self._contender.update()
        end = self._now()
        return {
            "step_s": end - begin,
            "forward_s": forward - begin,
            "backward_s": backward - forward,
            "optimizer_s": end - backward,
            "loss": float(loss.detach()),
            "peak_bytes": self._device.peak(),
        }

    def fit(self, fill: float) -> dict[str, Any]:
        """From now on, take the number of rows whose step peaks at this share of the device's memory.

        Two eager steps say how memory grows with rows; a compiled one may need less, and is then given more rows, once.
        """
        target = fill * self._device.total_bytes()
        config = self._setting.config
        least = 4.0 * config.width * config.sequence_len * config.layers
        self._resize(PROBES[0])
        self.step(eager=True)  # allocates the optimizer's state
        peaks, losses = [], []
        for rows in PROBES:
            found, _ = self._peak(rows, eager=True)
            peaks.append(found["peak_bytes"])
            losses.append(found["loss"])
        rows = rows_that_fill((peaks[0], peaks[1]), PROBES, target, least)
        rows, peak = self._fitting(rows)
        grown = rows_that_fill((peaks[0], peak), (PROBES[0], rows), target, least) if rows > PROBES[0] else rows
        if self._setting.compiled and grown > 1.25 * rows:
            rows, peak = self._fitting(grown)
        return {"batch_size": rows, "peak_bytes": peak, "loss": losses[0]}

    def _fitting(self, rows: int) -> tuple[int, int]:
        """(rows, peak) of a step of `rows` rows, or of fewer if these are too many."""
        for _ in range(TRIES):
            found, fits = self._peak(rows, eager=False)
            if fits:
                return rows, found["peak_bytes"]
            rows = max(1, int(0.8 * rows))
        raise MemoryError(f"a step of {rows} rows must fit into the device's memory, but does not; lower --fill")

    def _peak(self, rows: int, eager: bool) -> tuple[dict[str, Any], bool]:
        """A step of `rows` rows, and whether it fits."""
        self._resize(rows)
        self._device.forget_peak()
        try:
            return self.step(eager), True
        except torch.cuda.OutOfMemoryError:
            for parameter in (p for block in self._contender.blocks for p in block.parameters()):
                parameter.grad = None
            return {}, False

    def _resize(self, rows: int) -> None:
        self._setting = replace(self._setting, batch_size=rows)
        self._batch = self._setting.batch()

    def _now(self) -> float:
        self._device.wait()
        return wall()

    def split(self) -> dict[str, Any]:
        """One step: seconds by part."""
        split = StepSplit()
        with split.watching(self._contender):
            split.mark("start")
            loss = self._contender.loss(*self._batch)
            split.mark("head and loss")
            loss.backward()  # type: ignore[no-untyped-call]
            split.mark("embedding")
        self._contender.update()
        split.mark("optimizer")
        return split.seconds()

    def gemm(self) -> dict[str, Any]:
        """Floating-point operations per second of a product of two square matrices."""
        products = PRODUCTS if self._device.is_gpu else 1
        watch = Stopwatch()
        self._device.wait()
        with watch:
            for _ in range(products):
                self._square @ self._square
            self._device.wait()
        return {"flop_per_s": 2.0 * products * self._device.square**3 / watch.seconds}

    def loss(self) -> dict[str, Any]:
        """Seconds of head, soft cap and loss, forward and backward, and of the three matrix products in them."""
        config, device = self._setting.config, self._setting.device
        rows = min(self._setting.batch_size * self._setting.sequence_len, LOGITS // config.vocab_size)
        draw = torch.Generator(device).manual_seed(2)
        x, weight = (torch.randn(n, config.width, generator=draw, device=device) for n in (rows, config.vocab_size))
        weight *= config.width**-0.5
        logits = torch.randn(rows, config.vocab_size, generator=draw, device=device)
        if self._device.is_gpu:
            x, logits = x.to(self._square.dtype), logits.to(self._square.dtype)
        head = weight.to(x.dtype)
        out = torch.empty_like(logits)
        targets = self._batch[1].flatten()[:rows]
        products, loss = Stopwatch(), Stopwatch()
        self._device.wait()
        with products:
            torch.mm(x, head.t(), out=out)
            logits @ head
            logits.t() @ x
            self._device.wait()
        del logits, out
        x.requires_grad_()
        weight.requires_grad_()
        with loss:
            value = softcap_cross_entropy(x, weight, targets, config.arch.logit_softcap, config.vocab_size, -1)
            value.backward()  # type: ignore[no-untyped-call]
            self._device.wait()
        return {"products_s": products.seconds, "loss_s": loss.seconds}


def main(name: str, setting: dict[str, Any]) -> None:
    """Answer until the input ends. An error ends the process; it is the last line on stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    # Compilers print as they work; only answers may reach the pipe.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        session = StepSession(name, Setting(**setting))
        for line in sys.stdin:
            job = json.loads(line)
            print(json.dumps(getattr(session, job.pop("job"))(**job)), file=answers, flush=True)
    except Exception as error:
        sys.exit(" ".join(f"{type(error).__name__}: {error}".split()))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
