"""The tests marked cuda on the device."""

import re

from step import ROOT, Step, main

# The folders that hold them; to collect all others would take as long as running these.
FOLDERS = ("unit/model", "unit/optim", "unit/training", "integration/test_replicas.py")


def work(step: Step) -> None:
    marked = "cuda and not slow" if step.small else "cuda"  # slow: a step of its own does the same on the CPU
    folders = [str(ROOT / "tests" / name) for name in FOLDERS]
    options = ["-q", "-x", "-p", "no:cacheprovider", "-m", marked, "--device", step.device, "--durations=5"]
    said = step.run("-m", "pytest", "-c", str(ROOT / "pyproject.toml"), *options, *folders)
    counts = re.findall(r"(\d+) (passed|failed|skipped|error)", said)
    ran = sum(int(number) for number, kind in counts if kind == "passed") or said.count("[100%]")
    skipped = sum(int(number) for number, kind in counts if kind == "skipped")
    step.tell(f"{ran} passed, {skipped} skipped", passed=ran, skipped=skipped)


main(work)
