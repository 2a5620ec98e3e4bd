"""The process of one contender: reads jobs as lines of JSON from its input, and answers each with one line."""

import json
import os
import sys
from typing import Any

import torch

from fednano.bench.tokenizer.worker import peak_bytes
from fednano.bench.train_step.contenders import CONTENDERS, Setting, StepContender
from fednano.bench.train_step.split import StepSplit
from fednano.core.clock import Stopwatch, wall
from fednano.model.loss import softcap_cross_entropy

SQUARE = 1024  # side of the products that set the ceiling


class StepSession:
    """One contender. Each public method is a job and returns its answer."""

    def __init__(self, name: str, setting: Setting) -> None:
        torch.set_num_threads(setting.threads)
        self._setting = setting
        self._contender: StepContender = CONTENDERS[name](setting)
        self._batch = setting.batch()
        self._square = torch.ones(SQUARE, SQUARE)

    def step(self) -> dict[str, Any]:
        """One step: seconds of its three parts, and the loss before it."""
        begin = wall()
        loss = self._contender.loss(*self._batch)
        forward = wall()
        loss.backward()  # type: ignore[no-untyped-call]
        backward = wall()
        self._contender.update()
        end = wall()
        return {
            "step_s": end - begin,
            "forward_s": forward - begin,
            "backward_s": backward - forward,
            "optimizer_s": end - backward,
            "loss": float(loss.detach()),
            "peak_bytes": peak_bytes(),
        }

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
        watch = Stopwatch()
        with watch:
            self._square @ self._square
        return {"flop_per_s": 2.0 * SQUARE**3 / watch.seconds}

    def loss(self) -> dict[str, Any]:
        """Seconds of head, soft cap and loss, forward and backward, and of the three matrix products in them."""
        config = self._setting.config
        rows = self._setting.batch_size * self._setting.sequence_len
        draw = torch.Generator().manual_seed(2)
        x, weight = (torch.randn(n, config.width, generator=draw) for n in (rows, config.vocab_size))
        weight *= config.width**-0.5
        logits = torch.randn(rows, config.vocab_size, generator=draw)
        out = torch.empty_like(logits)
        targets = self._batch[1].flatten()
        products, loss = Stopwatch(), Stopwatch()
        with products:
            torch.mm(x, weight.t(), out=out)
            logits @ weight
            logits.t() @ x
        del logits, out
        x.requires_grad_()
        weight.requires_grad_()
        with loss:
            value = softcap_cross_entropy(x, weight, targets, config.arch.logit_softcap, config.vocab_size, -1)
            value.backward()  # type: ignore[no-untyped-call]
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
