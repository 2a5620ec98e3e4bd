"""The quickstart twice on the device: equal hashes; its bits per byte beside a run on the CPU."""

from step import Step, main

SMALL = ("rounds=2", "clients=2", "strategy.local_steps=4", "eval_tokens=4096", "model.sequence_len=128")
HASHES = ("weights_sha256", "tape_sha256")


def work(step: Step) -> None:
    # A third of the quickstart, so that three runs and a compilation fit; the data set is the quickstart's own kind.
    sizes = [*SMALL, "data.packages=[python]", "tokenizer.vocab_size=1000"] if step.small else ["rounds=4"]
    common = [*sizes, f"data.root={step.out}/data", "data.workers=4"]

    def run(folder: str, *overrides: str) -> dict:
        step.run("-m", "fednano.run", *common, *overrides, f"hydra.run.dir={step.out}/{folder}")
        return step.summary(folder)

    first, second = run("first", *step.hardware()), run("second", *step.hardware())
    figures = {"val_bpb": first["val_bpb"], "train_s": first["train_s"]}
    step.tell(f"{first['val_bpb']:.4f} bpb", **figures)
    for key in HASHES:
        step.require(first[key] == second[key], f"{key} differs between two equal runs")
    figures |= {"weights_sha256": first["weights_sha256"], "val_bpb_second": second["val_bpb"]}
    text = f"{first['val_bpb']:.4f} bpb from {first['val_bpb_initial']:.4f}, equal hashes"
    step.tell(text, **figures)
    if step.small:
        return
    cpu = run("cpu", "hardware=cpu")
    step.tell(f"{text}; CPU {cpu['val_bpb']:.4f}", val_bpb_cpu=cpu["val_bpb"], train_s_cpu=cpu["train_s"])
    apart = abs(first["val_bpb"] - cpu["val_bpb"])
    step.require(apart < 0.05 * cpu["val_bpb"], f"{first['val_bpb']:.4f} bpb, but {cpu['val_bpb']:.4f} on the CPU")


main(work)
