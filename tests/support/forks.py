"""A process that has imported torch once, and forks for each command that a test runs.

A new interpreter spends two seconds on imports, most of what a command takes that refuses its input. A fork has them
behind it, and is otherwise what `python -m fednano.NAME` is: `__main__`, arguments, environment, folder, exit code.
"""

import gc
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

WARM = (
    "hydra", "fednano.config.jobs", "fednano.experiment.preflight", "fednano.runtime.virtual",
    "fednano.runtime.centralized", "fednano.runtime.run_folder", "fednano.report.web.html",
    "fednano.report.terminal.console",
)  # fmt: skip


class Forks:
    """The process, started for the first command."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, name: str, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """What became of `python -m fednano.NAME ARGUMENTS`."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self._process.stdin and self._process.stdout
        out, err = self._folder / "out", self._folder / "err"
        wanted = {"name": name, "arguments": arguments, "cwd": str(cwd), "environment": dict(environment)}
        self._process.stdin.write(json.dumps({**wanted, "out": str(out), "err": str(err)}) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return subprocess.CompletedProcess([name, *arguments], code, out.read_text(), err.read_text())

    def close(self) -> None:
        """End the process. Other forks of this process may hold its pipes, so their end is not waited for."""
        if self._process:
            assert self._process.stdin and self._process.stdout
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()


def serve() -> None:
    """Fork for each line of standard input, and answer with the exit code; a fork returns as the command."""
    for module in WARM:
        import_module(module)
    gc.freeze()
    while line := sys.stdin.readline():
        wanted = json.loads(line)
        pid = os.fork()
        if not pid:
            become(wanted)
            return
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def become(wanted: Mapping[str, object]) -> None:
    """Be the command in this process."""
    os.chdir(str(wanted["cwd"]))
    for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, wanted["out"], 0), (2, wanted["err"], 0)):
        file = os.open(str(path), flags or os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # its buffer may hold the next line for the other process
    os.environ.clear()
    os.environ.update(wanted["environment"])  # type: ignore[call-overload]
    sys.path[0] = str(wanted["cwd"])
    sys.argv = [f"fednano.{wanted['name']}", *wanted["arguments"]]  # type: ignore[misc]
    runpy.run_module(f"fednano.{wanted['name']}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve()
