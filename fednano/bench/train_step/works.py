"""The measurements: contenders in their own processes take turns."""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from fednano.bench.tokenizer.process import BenchWorker, ContenderError
from fednano.bench.train_step.contenders import Setting
from fednano.config.compose import compose_config
from fednano.core.clock import wall
from fednano.model.arch import NANOCHAT
from fednano.model.gpt import GPT
from fednano.model.scaling import Depth, flops_per_token

StepFigures = dict[str, Any]
SAME_LOSS = 1e-4  # relative difference of the first step's loss up to which models count as the same
NEAR_LOSS = 1e-2  # the same on a GPU in bfloat16, where contenders round at different places


def prepared(options: argparse.Namespace, folder: Path) -> Setting:
    """The common setting; writes the initial weights."""
    optim = OmegaConf.to_container(compose_config(["optim=nanochat"]).optim, resolve=True)
    assert isinstance(optim, dict)
    kept = {str(key): value for key, value in optim.items() if key not in ("_target_", "schedule")}
    # nanochat's optimizer has learning rates for its own batch.
    kept["scale_with_batch"] = False
    setting = Setting(
        depth=options.depth,
        batch_size=options.batch_size,
        sequence_len=options.sequence_len,
        vocab_size=options.vocab_size,
        dtype=options.dtype,
        threads=options.threads,
        compiled=False,
        weights=str(folder / "weights.pt"),
        optim=kept,
        nanochat=str(options.nanochat or ""),
        device=options.device,
        deterministic=options.deterministic,
    )
    model = GPT(setting.config)
    model.init_weights(torch.Generator().manual_seed(0))
    torch.save(model.state_dict(), setting.weights)
    return setting


def started(
    stack: ExitStack, name: str, setting: Setting, timeout: float, job: str = "step", **arguments: float
) -> tuple[BenchWorker, StepFigures, float]:
    """(process, answer to its first job, seconds until that) of a new process with an empty compiler cache."""
    cache = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
    # The compiler keeps its precompiled headers below TMPDIR, wherever its cache is.
    environment = {"TORCHINDUCTOR_CACHE_DIR": cache, "TMPDIR": cache, "OMP_NUM_THREADS": str(setting.threads)}
    module = "fednano.bench.train_step.worker"
    begin = wall()
    told = json.dumps(asdict(setting))
    worker = BenchWorker(name, setting.threads, timeout, told, module=module, extra_environment=environment)
    stack.enter_context(worker)
    try:
        first = worker.ask(job, **arguments)
    except ContenderError as error:
        raise ValueError(f"{name} failed: {error}; try again without --{name}, or with another version") from error
    return worker, first, wall() - begin


def step(setting: Setting, options: argparse.Namespace) -> StepFigures:
    """All contenders in turns: the step, its split, the machine's products, head and loss alone."""
    names = ["fednano", "nanochat"] if options.nanochat else ["fednano"]
    modes = [False, True] if options.compile else [False]
    contenders: list[StepFigures] = []
    with ExitStack() as stack:
        workers: list[BenchWorker] = []
        for compiled, name in product(modes, names):
            worker, first, seconds = started(stack, name, replace(setting, compiled=compiled), options.timeout)
            workers.append(worker)
            contenders.append({"name": name, "compiled": compiled, "loss": first["loss"], "first_step_s": seconds})
        # The second step is slower than later ones: it allocates optimizer state and memory.
        turns = [[worker.ask("step") for worker in workers] for _ in range(options.repeats + 2)][2:]
        # Compiled modules set no marks.
        eager = {k: worker for k, worker in enumerate(workers) if not contenders[k]["compiled"]}
        splits = [{k: worker.ask("split") for k, worker in eager.items()} for _ in range(options.repeats)]
        machine = medians({**workers[0].ask("gemm"), **workers[0].ask("loss")} for _ in range(options.repeats))
    for k, contender in enumerate(contenders):
        contender |= medians(turn[k] for turn in turns)  # noqa: PLW2901
        contender["split_s"] = medians(split[k] for split in splits) if k in eager else None
        contender["same_loss"] = abs(contender["loss"] / contenders[0]["loss"] - 1.0) < SAME_LOSS
    rate(contenders, setting, machine["flop_per_s"])
    return {
        "ceiling_gflop_per_s": machine["flop_per_s"] / 1e9,
        "contenders": contenders,
        "head_and_loss": {**machine, "ratio": machine["loss_s"] / machine["products_s"]},
    }


def alone(setting: Setting, options: argparse.Namespace) -> StepFigures:
    """One contender after another, each with the device to itself; one that fails is left out and named."""
    contenders: list[StepFigures] = []
    failed: dict[str, str] = {}
    machine: StepFigures = {}
    fit = {"job": "fit", "fill": options.fill} if options.fill else {}
    for name in ["fednano", "nanochat"] if options.nanochat else ["fednano"]:
        with ExitStack() as stack:
            one = replace(setting, compiled=options.compile)
            try:
                worker, first, seconds = started(stack, name, one, options.timeout, **fit)
                turns = [worker.ask("step") for _ in range(options.repeats + 2)][2:]
                if not machine:
                    machine = medians({**worker.ask("gemm"), **worker.ask("loss")} for _ in range(options.repeats + 1))
            except (ValueError, ContenderError) as error:
                if name == "fednano":
                    raise ValueError(str(error)) from error
                failed[name] = str(error)
                continue
        contenders.append(
            {
                "name": name,
                "compiled": options.compile,
                "loss": first["loss"],
                "first_step_s": seconds,
                "batch_size": first.get("batch_size", setting.batch_size),
                "split_s": None,
                "same_loss": not contenders or abs(first["loss"] / contenders[0]["loss"] - 1.0) < NEAR_LOSS,
                **medians(turns),
            }
        )
    rate(contenders, setting, machine["flop_per_s"])
    return {
        "ceiling_gflop_per_s": machine["flop_per_s"] / 1e9,
        "contenders": contenders,
        "failed": failed,
        "head_and_loss": {**machine, "ratio": machine["loss_s"] / machine["products_s"]},
    }


def rate(contenders: list[StepFigures], setting: Setting, ceiling: float) -> None:
    """Add the figures that follow from `step_s`; `ceiling` is in floating-point operations per second."""
    work = flops_per_token(Depth(setting.depth, setting.sequence_len), setting.vocab_size, NANOCHAT)
    rivals = {
        c["compiled"]: c["step_s"] / c.get("batch_size", setting.batch_size)
        for c in contenders
        if c["name"] == "nanochat"
    }
    for contender in contenders:
        tokens = contender.get("batch_size", setting.batch_size) * setting.sequence_len / contender["step_s"]
        rival = rivals.get(contender["compiled"])
        contender["tokens_per_s"] = tokens
        contender["gflop_per_s"] = tokens * work / 1e9
        contender["share_of_ceiling"] = tokens * work / ceiling
        each = contender["step_s"] / contender.get("batch_size", setting.batch_size)
        contender["ratio"] = rival / each if rival else None


def clients(setting: Setting, options: argparse.Namespace) -> StepFigures:
    """Simultaneous steps in several processes of one thread, in turn with one process of as many threads."""
    count = options.clients
    with ExitStack() as stack:
        whole, _, _ = started(stack, "fednano", replace(setting, threads=count), options.timeout)
        single = replace(setting, threads=1)
        parts = [started(stack, "fednano", single, options.timeout)[0] for _ in range(count)]
        pool = stack.enter_context(ThreadPoolExecutor(count))
        together, alone = [], []
        for _ in range(options.repeats + 2):
            begin = wall()
            list(pool.map(lambda worker: worker.ask("step"), parts))
            together.append(wall() - begin)
            begin = wall()
            whole.ask("step")
            alone.append(wall() - begin)
    tokens = setting.batch_size * setting.sequence_len
    apart, one = count * tokens / statistics.median(together[2:]), tokens / statistics.median(alone[2:])
    return {"count": count, "tokens_per_s": apart, "one_process_tokens_per_s": one, "ratio": apart / one}


def medians(rows: Iterable[StepFigures]) -> StepFigures:
    """The median of each figure except the loss; of peak memory the last value."""
    listed = list(rows)
    found = {key: statistics.median(row[key] for row in listed) for key in listed[-1] if key != "loss"}
    return found | ({"peak_bytes": listed[-1]["peak_bytes"]} if "peak_bytes" in found else {})
