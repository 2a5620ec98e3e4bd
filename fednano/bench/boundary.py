"""The time between the last inner step of a round and the first of the next, with real processes on this machine."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from fednano.core.marks import VARIABLE, read_marks
from fednano.report.terminal.printer import printer

# 12 million parameters with short steps, so that the boundaries take most of the time.
RUN = (
    *("model=d5", "model.sequence_len=64", "batch_size=2", "volatility=none", "hardware.threads=1"),
    *("runtime=deployment", "eval_every=1000", "checkpoint_every=1000"),
)
PARTS = ("serialization", "transport", "poll", "merge")
# The marks on a client's way up and on its way down, each with the part that ends there.
UP = (("answered", "serialization"), ("sending", "transport"), ("sent", "transport"), ("asking", "poll"))
DOWN = (
    *(("pushed", "transport"), ("receiving", "poll"), ("received", "transport"), ("relayed", "transport")),
    *(("came", "serialization"), ("step", "serialization")),
)

BoundaryMark = Mapping[str, Any]


def marks(overrides: Sequence[str]) -> list[dict[str, Any]]:
    """The marks of a deployment. Raises ValueError with its output if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "marks.jsonl"
        command = [sys.executable, "-m", "fednano.run", *RUN, *overrides, f"hydra.run.dir={folder}/run"]
        ran = subprocess.run(
            command, env={**os.environ, VARIABLE: str(path)}, capture_output=True, text=True, check=False
        )
        if ran.returncode:
            raise ValueError(f"the deployment failed: {ran.stderr.strip() or ran.stdout.strip()}")
        return read_marks(path)


def boundaries(noted: Sequence[BoundaryMark]) -> Iterator[dict[str, float]]:
    """Seconds of each part, and in total, of every boundary after the first one.

    A boundary begins with the last inner step of all clients. Its way up is that of the client whose update arrives
    last; of the clients' ways down, the median one counts.
    """
    clients = sorted({mark["client"] for mark in noted if mark["what"] == "step"})
    of = {client: [mark for mark in noted if mark["client"] == client] for client in clients}
    for r in range(1, max(mark["round"] for mark in noted if mark["what"] == "step")):
        ways = {client: _way(of[client], r) for client in clients}
        up = max((way[0] for way in ways.values()), key=lambda times: times["pulled"])
        pushing = min(down["pushing"] for _, down, _ in ways.values())
        parts: dict[str, float] = defaultdict(float)
        at = max(times["step"] for times, _, _ in ways.values())
        for what, part in (*UP, ("pulled", "transport")):
            parts[part] += max(0.0, up[what] - at)
            at = max(at, up[what])
        parts["merge"] += pushing - at
        downs = sorted((_parts_down(down, step_s, pushing) for _, down, step_s in ways.values()), key=_whole)
        for part, seconds in downs[len(downs) // 2].items():
            parts[part] += seconds
        yield {**{part: parts[part] for part in PARTS}, "whole": sum(parts.values())}


def _way(noted: Sequence[BoundaryMark], r: int) -> tuple[dict[str, float], dict[str, float], float]:
    """A client's marks on its way up after round `r`, on its way down before the next, and the seconds of a step."""
    steps = [mark["t"] for mark in noted if mark["what"] == "step" and mark["round"] == r]
    following = [mark["t"] for mark in noted if mark["what"] == "step" and mark["round"] == r + 1]
    between = [mark for mark in noted if steps[-1] < mark["t"] < following[0]]
    pushing = next(mark["t"] for mark in between if mark["what"] == "pushing")
    up = {mark["what"]: mark["t"] for mark in between if mark["t"] < pushing}
    down = {mark["what"]: mark["t"] for mark in between if mark["t"] >= pushing}
    step_s = median(later - earlier for earlier, later in pairwise(following))
    return {**up, "step": steps[-1]}, {**down, "step": following[0]}, step_s


def _parts_down(down: Mapping[str, float], step_s: float, begins: float) -> dict[str, float]:
    parts: dict[str, float] = defaultdict(float)
    parts["transport"] = down["pushing"] - begins  # other clients' tasks are sent first
    at = down["pushing"]
    for what, part in DOWN:
        # A message may be received before the sender marks it as sent.
        until = max(at, down[what] - step_s if what == "step" else down[what])
        parts[part] += until - at
        at = until
    return parts


def _whole(parts: Mapping[str, float]) -> float:
    return sum(parts.values())


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fednano.bench boundary",
        description="Measure the time between two rounds of a live federation on this machine, by what it is spent on.",
    )
    parser.add_argument("--clients", type=int, default=2, help="number of clients (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds, 3 or more (default: %(default)s)")
    parser.add_argument("--local-steps", type=int, default=5, help="inner steps per round (default: %(default)s)")
    parser.add_argument("--marks", type=Path, help="read the marks from this file instead of running")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    chosen = parser.parse_args(arguments)
    overrides = (
        f"clients={chosen.clients}",
        f"rounds={chosen.rounds}",
        f"strategy.local_steps={chosen.local_steps}",
    )
    found = list(boundaries(read_marks(chosen.marks) if chosen.marks else marks(overrides)))
    if not found:
        raise ValueError(f"--rounds must be >= 3, got {chosen.rounds}; use 3 or more")
    if chosen.json:
        print(json.dumps(found, indent=2))
        return
    table = Table(title=f"seconds between two rounds, {len(found)} boundaries of {chosen.clients} clients")
    for column in ("", "median", "least", "most"):
        table.add_column(column, justify="right" if column else "left")
    for name in (*PARTS, "whole"):
        seconds = [boundary[name] for boundary in found]
        table.add_row(name, *(f"{of(seconds):.2f}" for of in (median, min, max)))
    printer().print(table)
