"""The tests marked cuda on the device."""

import importlib.util
import re

from step import ROOT, Step, main

# The folders that hold them; to collect all others would take as long as running these.
FOLDERS = ("unit/model", "unit/optim", "unit/training", "integration/test_replicas.py")


def work(step: Step) -> None:
    marked = "cuda and not slow" if step.small else "cuda"  # slow: a step of its own does the same on the CPU
    folders = [str(ROOT / "tests" / name) for name in FOLDERS]
    options = ["-rf", "-p", "no:cacheprovider", "-m", marked, "--device", step.device, "--durations=5"]
    if not step.small and importlib.util.find_spec("xdist"):
        options += ["-n", "4"]  # most of the time goes to the compiler
    said = step.run("-m", "pytest", "-c", str(ROOT / "pyproject.toml"), *options, *folders, expect=None)
    found = {kind: int(number) for number, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", said)}
    step.tell(", ".join(f"{number} {kind}" for kind, number in found.items()) or "no test ran", **found)
    failed = re.findall(r"^FAILED .*::(\S+)", said, re.MULTILINE)
    step.require(not failed and "error" not in found and "passed" in found, f"failed: {', '.join(failed) or 'to run'}")


main(work)
