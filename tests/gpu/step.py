"""What every step shares: options, commands that it runs, figures that it leaves."""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from running import SKIPPED

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


class Step:
    """A running step. Its figures are written whenever they change, so that a step cut short leaves what it has."""

    def __init__(self) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("--device", required=True)
        parser.add_argument("--out", type=Path, required=True)
        parser.add_argument("--seconds", type=float, required=True)
        parser.add_argument("--nanochat", default="")
        options = parser.parse_args()
        self.device: str = options.device
        self.small = self.device == "cpu"
        self.out: Path = options.out
        self.nanochat: str = options.nanochat
        self._until = time.monotonic() + options.seconds
        self._record: dict[str, Any] = {"figure": "", "commands": [], "figures": {}}

    def left(self) -> float:
        """Seconds until the step is ended."""
        return self._until - time.monotonic()

    def tell(self, figure: str, **figures: Any) -> None:
        """The main figure so far, in a few words, and others for results.json; `rows` becomes a table."""
        self._record["figure"] = figure
        self._record["figures"] |= figures
        self._write()

    def skip(self, reason: str) -> NoReturn:
        self._record["reason"] = reason
        self._write()
        sys.exit(SKIPPED)

    def fail(self, reason: str) -> NoReturn:
        self._record["reason"] = reason
        self._write()
        sys.exit(f"failed: {reason}")

    def require(self, holds: bool, reason: str) -> None:
        if not holds:
            self.fail(reason)

    def run(self, *words: str, expect: int | None = 0) -> str:
        """Run `python WORDS` in the step's folder, its output on ours; returns that.

        Fails on another exit code than `expect`; None takes any.
        """
        shown = shlex.join(["python", *words]).replace(f"{self.out}/", "").replace(f"{ROOT}/", "")
        self._record["commands"].append(shown)
        self._write()
        print(f"$ {shown}", flush=True)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        found = subprocess.run(
            [sys.executable, *words],
            cwd=self.out,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        print(found.stdout, flush=True)
        last = found.stdout.strip().splitlines()[-1:] or [""]
        self.require(
            expect in (None, found.returncode), f"exit code {found.returncode} of {shown[:80]}: {last[0][:160]}"
        )
        return found.stdout

    def summary(self, folder: str) -> dict[str, Any]:
        """The summary.json of a run in the step's folder."""
        found: dict[str, Any] = json.loads((self.out / folder / "summary.json").read_text(encoding="utf-8"))
        return found

    def hardware(self) -> list[str]:
        """The overrides that put a run on the device."""
        if self.small:
            return ["hardware=cpu", "hardware.threads=1"]
        return ["hardware=cuda", f"hardware.device={self.device}", f"hardware.compile={str(compiles()).lower()}"]

    def _write(self) -> None:
        (self.out / "figures.json").write_text(json.dumps(self._record, indent=1) + "\n", encoding="utf-8")


def compiles() -> bool:
    """Whether torch.compile can work on a GPU here: it needs Triton and a C compiler."""
    from report import environment

    found = environment("cpu")
    return "none" not in (found["triton"], found["compiler"])


def main(work: Callable[[Step], None]) -> None:
    step = Step()
    try:
        work(step)
    except Exception as error:
        import traceback

        traceback.print_exc()
        step.fail(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
