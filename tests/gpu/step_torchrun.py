"""All devices of the machine in one centralized run, with a rank each; two ranks on the CPU."""

import socket

from step import Step, main

SIZES = (
    "volatility=none", "rounds=1", "strategy.local_steps=4", "model.sequence_len=64", "batch_size=2",
    "eval_tokens=2048", "tokenizer.vocab_size=400", "data=text",
)  # fmt: skip


def work(step: Step) -> None:
    import torch
    from support.texts import write_docstrings

    ranks = 2 if step.small else torch.cuda.device_count()
    if ranks < 2:
        step.skip(f"{ranks} device here, two are needed")
    (step.out / "texts").mkdir(exist_ok=True)
    write_docstrings(step.out / "texts")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = ["torch.distributed.run", f"--nproc_per_node={ranks}", "--master_addr=127.0.0.1"]
    hardware = step.hardware() if step.small else ["hardware=cuda_ddp"]
    overrides = [*SIZES, f"clients={ranks}", f"data.path={step.out}/texts", f"data.root={step.out}/data", *hardware]
    words = [*launcher, f"--master_port={port}", "-m", "fednano.run", "runtime=centralized", *overrides]
    step.run("-m", *words, f"hydra.run.dir={step.out}/ranks")
    found = step.summary("ranks")
    step.require(found["val_bpb"] < found["val_bpb_initial"], "the model did not learn")
    step.tell(f"{ranks} ranks, {found['val_bpb']:.4f} bpb from {found['val_bpb_initial']:.4f}", ranks=ranks)


main(work)
