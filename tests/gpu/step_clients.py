"""Two clients on one device: worker processes, a deployment beside the virtual clock, sampling and evaluation."""

import json

from step import Step, main

SIZES = (
    "volatility=none", "clients=2", "rounds=2", "strategy.local_steps=4", "model.sequence_len=128", "batch_size=4",
    "eval_tokens=4096", "tokenizer.vocab_size=1000", "data=text",
)  # fmt: skip


def work(step: Step) -> None:
    from support.texts import write_docstrings

    (step.out / "texts").mkdir(exist_ok=True)
    write_docstrings(step.out / "texts")
    common = [*SIZES, f"data.path={step.out}/texts", f"data.root={step.out}/data", *step.hardware()]
    common.append("hardware.compile=false")  # every process would compile for itself

    def run(folder: str, *overrides: str) -> str:
        step.run("-m", "fednano.run", *common, *overrides, f"hydra.run.dir={step.out}/{folder}")
        weights: str = step.summary(folder)["weights_sha256"]
        return weights

    virtual = run("virtual")
    if step.small:
        step.require(run("workers", "hardware.workers=2") == virtual, "two workers give other weights")
    else:
        said = step.run("-m", "fednano.run", *common, "hardware.workers=2", "hydra.run.dir=workers", expect=2)
        refused = (said.strip().splitlines() or [""])[-1]
        step.require("hardware.workers must be 0 or 1" in refused, f"workers on a GPU: {refused[:200]}")
    step.tell("workers as they should be")
    live = run("deployment", "runtime=deployment", "runtime.transfer_s=60")
    step.require(live == virtual, "a deployment of two nodes on the device gives other weights than the virtual clock")
    step.tell("two nodes equal the virtual clock", weights_sha256=virtual)
    depth = "2" if step.small else "12"
    lengths = ["--tokens", "32", "--prompt", "32", "--sequence-len", "128"] if step.small else []
    bench = ["sample", "--device", step.device, "--depth", depth, *lengths, "--repeats", "1" if step.small else "3"]
    said = step.run("-m", "fednano.bench", *bench, "--json")
    speed = json.loads(said[said.index("{") :])
    text = f"two nodes equal the virtual clock; sampling at d{depth} {speed['tokens_per_s']:,.0f} tokens/s"
    step.tell(text, **{f"sample {key}": value for key, value in speed.items()})
    begun = step.left()
    step.run("-m", "fednano.evaluate", f"model_dir={step.out}/virtual/model", "tasks=none", *step.hardware())
    step.tell(text, evaluate_s=begun - step.left())


main(work)
