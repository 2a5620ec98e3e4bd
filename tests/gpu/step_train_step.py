"""The training step at several depths: tokens/s, share of the device's own products, memory; beside nanochat."""

import json
from typing import Any

from step import Step, compiles, main

# Depth, whether exact repeats are asked for (as in a run), seconds that it takes at least; the first must fit.
LARGE = ((4, True, 0.0), (12, True, 45.0), (20, True, 80.0), (12, False, 60.0))
GPU = ("--sequence-len", "2048", "--vocab-size", "65536", "--dtype", "bfloat16", "--fill", "0.8", "--repeats", "5")
SMALL = ("--sequence-len", "128", "--vocab-size", "1024", "--batch-size", "2", "--repeats", "2", "--threads", "1")


def work(step: Step) -> None:
    rows: list[dict[str, Any]] = []
    missed: list[str] = []
    for depth, deterministic, least in ((2, True, 0.0),) if step.small else LARGE:
        name = f"d{depth}" + ("" if deterministic else ", not deterministic")
        if step.left() < least:
            missed.append(name)
            continue
        rows += measured(step, depth, deterministic)
        ours = [f"{row['model']} {row['share of products']}" for row in rows if row["name"] == "fednano"]
        step.tell(f"share of products: {', '.join(ours)}", rows=rows)
    must = [name for name in missed if "not" not in name]
    step.require(not must, f"no time was left for {', '.join(must)}")


def measured(step: Step, depth: int, deterministic: bool) -> list[dict[str, Any]]:
    file = step.out / f"d{depth}_{int(deterministic)}.json"
    options = SMALL if step.small else (*GPU, *(["--compile"] if compiles() else []))
    words = ["--device", step.device, "--depth", str(depth), "--clients", "0", *options, "--json", str(file)]
    words += ["--deterministic"] if deterministic else []
    words += ["--nanochat", step.nanochat] if step.nanochat and deterministic else []
    step.run("-m", "fednano.bench", "train_step", *words, "--timeout", f"{max(30.0, step.left() - 5.0):.0f}")
    found = json.loads(file.read_text(encoding="utf-8"))
    rows = [
        {
            "name": contender["name"],
            "model": f"d{depth}" + ("" if deterministic else " not deterministic"),
            "compiled": contender["compiled"],
            "rows": contender.get("batch_size", 2),
            "tokens/s": f"{contender['tokens_per_s']:,.0f}",
            "share of products": f"{contender['share_of_ceiling']:.1%}",
            "TFLOP/s": f"{contender['gflop_per_s'] / 1e3:.1f} of {found['ceiling_gflop_per_s'] / 1e3:.1f}",
            "step, ms": f"{contender['step_s'] * 1e3:.1f}",
            "optimizer, ms": f"{contender['optimizer_s'] * 1e3:.1f}",
            "peak, GB": f"{contender['peak_bytes'] / 1e9:.1f}",
            "first step, s": f"{contender['first_step_s']:.0f}",
            "same loss": contender["same_loss"],
        }
        for contender in found["contenders"]
    ]
    for name, error in found.get("failed", {}).items():
        print(f"{name} did not run: {error}")
        step.tell("", **{f"{name} at d{depth}": error})
    return rows


main(work)
