"""One step in a process of its own: its time limit, its progress line, its verdict."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

LAST_LINES = 15
SKIPPED = 77  # exit code of a step that cannot run here
CLEAR_S = 5.0


@dataclass(kw_only=True)
class Outcome:
    """A step's verdict (passed, failed, skipped), the reason if it did not pass, and its main figure."""

    name: str
    verdict: str
    seconds: float
    reason: str = ""
    figure: str = ""
    commands: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        return asdict(self)


def run_step(here: Path, name: str, device: str, folder: Path, limit: float, nanochat: str) -> Outcome:
    """Run tests/gpu/step_NAME.py for at most `limit` seconds; its output is FOLDER/NAME.txt."""
    own, output = folder / name, folder / f"{name}.txt"
    own.mkdir(exist_ok=True)
    (own / "figures.json").unlink(missing_ok=True)
    words = [sys.executable, "-u", str(here / f"step_{name}.py"), "--device", device, "--out", str(own)]
    words += ["--seconds", f"{limit:.0f}", *(["--nanochat", nanochat] if nanochat else [])]
    begun = time.monotonic()
    with output.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = watched(process, name, begun, limit)
        finally:
            end_group(process)
    seconds = time.monotonic() - begun
    record = read_figures(own / "figures.json")
    common = {"seconds": seconds, "commands": record.get("commands", []), "figures": record.get("figures", {})}
    figure = record.get("figure", "")
    if code == 0:
        return Outcome(name=name, verdict="passed", figure=figure, **common)
    if code == SKIPPED:
        return Outcome(name=name, verdict="skipped", reason=record.get("reason", ""), **common)
    reason = f"no end within {limit:.0f} s" if code is None else record.get("reason") or f"exit code {code}"
    show_end(output)
    return Outcome(name=name, verdict="failed", reason=reason, figure=figure, **common)


def watched(process: subprocess.Popen[bytes], name: str, begun: float, limit: float) -> int | None:
    """The exit code, None if the limit is reached; a terminal shows the seconds meanwhile."""
    while True:
        passed = time.monotonic() - begun
        if passed >= limit:
            return None
        if sys.stdout.isatty():
            print(f"\r{name:<11} running  {passed:5.0f} of {limit:.0f} s", end="\r", flush=True)
        with suppress(subprocess.TimeoutExpired):
            return process.wait(min(1.0, limit - passed))


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End what the step has started; politely first, since federations clear up."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        if process.returncode is not None:
            return
        with suppress(subprocess.TimeoutExpired):
            process.wait(CLEAR_S)


def read_figures(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record


def show_end(output: Path) -> None:
    for line in output.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]:
        print(f"    {line}")
