"""The checks on a GPU: `python tests/gpu`, one line of verdict for each step, results as JSON and Markdown.

A step that fails or takes too long does not keep the others from running. Each is a process whose output is a file.
With --device cpu every step runs in a small form.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from report import environment, markdown, verdict_line
from running import Outcome, run_step

HERE = Path(__file__).parent
TOTAL_S = 540.0
# Seconds that a step may take at most, and those that are kept for it while earlier steps run.
STEPS = {
    "numerics": (60.0, 25.0),
    "tests": (150.0, 60.0),
    "quickstart": (150.0, 50.0),
    "train_step": (260.0, 140.0),
    "clients": (150.0, 60.0),
    "torchrun": (60.0, 10.0),
}


def main(arguments: list[str]) -> int:
    options = parsed(arguments)
    names = [options.step] if options.step else list(STEPS)
    if options.list:
        print("\n".join(STEPS))
        return 0
    if missing := absent(options.device):
        print(missing, file=sys.stderr)
        return 2
    folder = Path(options.out or tempfile.mkdtemp(prefix="fednano_gpu_")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    found = environment(options.device)
    print(" · ".join(f"{key} {value}" for key, value in found.items()), flush=True)
    outcomes: list[Outcome] = []
    for position, name in enumerate(names):
        left = options.seconds - (time.monotonic() - begun)
        kept = sum(STEPS[later][1] for later in names[position + 1 :])
        limit = max(min(STEPS[name][1], left), min(STEPS[name][0], left - kept))
        outcomes.append(run_step(HERE, name, options.device, folder, limit, options.nanochat))
        print(verdict_line(outcomes[-1]), flush=True)
        write(folder, found, outcomes, options)
    passed = all(outcome.verdict != "failed" for outcome in outcomes)
    skipped = [outcome.name for outcome in outcomes if outcome.verdict == "skipped"]
    said = "passed" if passed and not skipped else f"passed, without {', '.join(skipped)}" if passed else "failed"
    print(f"{said} in {time.monotonic() - begun:.0f} s; results.md, results.json and output: {folder}")
    return 0 if passed else 1


def absent(device: str) -> str:
    """Why there is nothing to check: one line, empty if the device is there."""
    import torch

    if not device.startswith("cuda") or torch.cuda.is_available():
        return ""
    return f"--device must be on this machine, got {device} but no CUDA device; use --device cpu (make gpu DEVICE=cpu)"


def write(folder: Path, found: dict[str, str], outcomes: list[Outcome], options: argparse.Namespace) -> None:
    record = {"environment": found, "steps": [outcome.record() for outcome in outcomes]}
    (folder / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(markdown(found, outcomes, options.device), encoding="utf-8")


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="torch device; cpu: every step in a small form")
    parser.add_argument("--step", choices=STEPS, help="run this step alone")
    parser.add_argument("--list", action="store_true", help="print the steps; run nothing")
    parser.add_argument("--nanochat", default="", help="folder of a nanochat checkout to compare train_step with")
    parser.add_argument("--out", help="folder for results and output; default: a new one")
    parser.add_argument("--seconds", type=float, default=TOTAL_S, help="for all steps together")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
