"""Experiments that a notebook starts, each in a process of its own."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from fednano.config.quoting import value_in
from fednano.notebook.loading import LoadedRun, LoadedRuns, load_run, load_runs
from fednano.process.child import Child

OUTPUTS = Path("outputs")
LOOK_S = 0.2  # between two looks at what the process has printed
END_S = 60.0  # for a run that is interrupted to end cleanly
BAD_INPUT = 2  # the exit code of a command that refuses its input


def fit(overrides: Sequence[str] = (), *, quiet: bool = False) -> LoadedRun:
    """Run an experiment as `python -m fednano.run OVERRIDES…` does, in the current folder, and load what it leaves.

        run = fednano.fit(["strategy=fedavg", "rounds=4"])

    Interrupting the cell ends the run cleanly; `fit(["resume=FOLDER"])` continues it. The run finds modules beside the
    notebook, but no classes that are defined in it.

    Args:
        overrides: the words of the command line, options such as `--config-dir` among them.
        quiet: whether not to show what the run prints.

    Raises ValueError for bad input, with the line that says what to change, and RuntimeError if the run fails.
    """
    require_list(overrides, "fit")
    if given := _value(overrides, "resume"):
        _run(overrides, quiet)
        return load_run(given)
    return load_run(_launched(overrides, "hydra.run.dir", [], quiet))


def sweep(overrides: Sequence[str], *, quiet: bool = False) -> LoadedRuns:
    """Run a sweep as `python -m fednano.run -m OVERRIDES…` does, and load all of its runs; otherwise as `fit`.

    runs = fednano.sweep(["strategy=diloco,fedavg", "seed=1,2,3"])
    """
    require_list(overrides, "sweep")
    return load_runs(_launched(overrides, "hydra.sweep.dir", ["-m"], quiet))


def require_list(overrides: object, of: str) -> None:
    """Raise ValueError for overrides that are one text in place of a list of them."""
    if isinstance(overrides, str):
        raise ValueError(f'fednano.{of} takes a list of overrides, got "{overrides}"; write ["{overrides}"]')


def _launched(overrides: Sequence[str], key: str, options: Sequence[str], quiet: bool) -> Path:
    """Run the command; returns the folder that it wrote, which `key` names."""
    if given := _value(overrides, key):
        _run([*options, *overrides], quiet)
        return Path(given)
    mark = uuid4().hex[:6]  # no run that starts in the same second has the same folder
    folder = f"{OUTPUTS}/${{name}}/${{now:%Y-%m-%d_%H-%M-%S}}_{mark}"
    _run([*options, *overrides, f"{key}={folder}"], quiet)
    return next(OUTPUTS.rglob(f"*_{mark}"))


def _value(overrides: Sequence[str], key: str) -> str | None:
    """The value of the last override of a key, without quotes; None without one."""
    given = [word for word in overrides if word.lstrip("+").partition("=")[0] == key]
    return str(value_in(given[-1])) if given else None


def _run(words: Sequence[str], quiet: bool) -> None:
    """Run the command to its end and show what it prints. Raises as `fit` does."""
    with tempfile.TemporaryDirectory() as place:
        log = Path(place, "output")
        command = [sys.executable, "-m", "fednano.run", *words]
        child = Child("the run", command, log=log, environment=os.environ, grace_s=END_S)
        child.start()
        with log.open(encoding="utf-8", errors="replace") as printed:
            try:
                while (code := _ended(child)) is None:
                    _show(printed.read(), quiet)
            finally:  # also when the cell is interrupted
                child.stop()
                _show(printed.read(), quiet)
        if code == BAD_INPUT:
            raise ValueError(child.tail().splitlines()[-1].removeprefix("fednano: "))
        if code:
            raise RuntimeError(f"the run {child.how()}:\n{child.tail()}")


def _ended(child: Child) -> int | None:
    """The exit code once the process has ended; None after a moment without that."""
    try:
        return child.wait(LOOK_S)
    except subprocess.TimeoutExpired:
        return None


def _show(text: str, quiet: bool) -> None:
    if text and not quiet:
        print(text, end="", flush=True)
