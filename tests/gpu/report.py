"""The line of a verdict, the environment, and the Markdown of all results."""

import importlib.util
import platform
import shutil
import subprocess
from datetime import date

from running import Outcome


def environment(device: str) -> dict[str, str]:
    """The device, its driver, and the versions that figures depend on."""
    import torch

    gpu = device.startswith("cuda") and torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name(device) if gpu else f"{device} ({platform.machine()})",
        "driver": driver() if gpu else "none",
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda) if gpu else "none",
        "triton": version_of("triton"),
        "compiler": shutil.which("cc") or shutil.which("gcc") or shutil.which("clang") or "none",
        "python": platform.python_version(),
    }


def driver() -> str:
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def version_of(module: str) -> str:
    if importlib.util.find_spec(module) is None:
        return "none"
    return str(getattr(importlib.import_module(module), "__version__", "unknown"))


def verdict_line(outcome: Outcome) -> str:
    said = "; ".join(filter(None, (outcome.reason, outcome.figure)))
    return f"{outcome.name:<11} {outcome.verdict:<8} {outcome.seconds:5.0f} s  {said}"


def markdown(found: dict[str, str], outcomes: list[Outcome], device: str) -> str:
    """An entry for LOG.md."""
    lines = [f"## {date.today().isoformat()}: On {found['device']}", ""]
    lines += [", ".join(f"{key} {value}" for key, value in found.items() if key != "device") + ".", ""]
    lines += [f"    make gpu DEVICE={device}", "", "| step | verdict | seconds | figure |", "|---|---|---|---|"]
    for outcome in outcomes:
        said = "; ".join(filter(None, (outcome.reason, outcome.figure))).replace("|", "/")
        lines.append(f"| {outcome.name} | {outcome.verdict} | {outcome.seconds:.0f} | {said} |")
    for outcome in outcomes:
        rows = outcome.figures.get("rows")
        if rows:
            columns = list(rows[0])
            lines += ["", f"{outcome.name}:", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
            lines += [f"| {' | '.join(str(row.get(column, '')) for column in columns)} |" for row in rows]
    commands = [command for outcome in outcomes for command in outcome.commands]
    return "\n".join([*lines, "", *(f"    {command}" for command in commands)]) + "\n"
