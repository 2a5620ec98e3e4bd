"""The accuracy of the virtual clock: replays a run's event log on it and compares the times.

    python -m fednano.fidelity outputs/NAME/DATE_TIME

The replay knows what the event log says about the machines: when each client was up, its mean inner step and
transfers, and the server's time between rounds. It knows nothing of the run's results.
"""

from fednano.core.interrupts import end_at_signals

if __name__ == "__main__":  # first, since the imports below take a while
    end_at_signals()

import argparse
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from rich.table import Table

from fednano.config.compose import compose_config
from fednano.config.errors import guarded
from fednano.config.targets import allow
from fednano.core.clock import VirtualClock
from fednano.core.event_log import read_log
from fednano.core.events import Evaluated, Event, RoundMerged, RoundSkipped
from fednano.report.measured import Measured, measure
from fednano.report.terminal.printer import printer
from fednano.volatility.availability import Availability, Window
from fednano.volatility.profiles import Profile

WITHIN = 0.10


@dataclass(frozen=True)
class Recorded(Profile):
    """The windows in an event log; a client that it does not name is never up."""

    windows: Mapping[str, tuple[tuple[float, float, str], ...]]
    name: str = "recorded"

    def availability(self, client: str, index: int, seed: int) -> Availability:
        return Availability(Window(*span) for span in self.windows.get(client, ()))  # type: ignore[arg-type]


def replay(folder: Path, measured: Measured) -> Measured:
    """The figures of the run in `folder` when it is played on the virtual clock with the machines in `measured`.

    Raises ValueError for a folder without a run.
    """
    from fednano.coordination.memory import MemoryStore
    from fednano.core.progress import Silent
    from fednano.experiment.experiment import Experiment
    from fednano.experiment.resume import recorded_config
    from fednano.runtime.beginning import message_bytes
    from fednano.runtime.play_through import play
    from fednano.volatility.network import Network

    cfg = recorded_config(folder, str(folder))
    transfer_s = cfg.runtime.get("transfer_s")
    cfg.rounds = len(measured.rounds)  # of an interrupted run, only the finished ones
    cfg.pop("budget", None)  # the rounds end the replay
    cfg.hardware.device, cfg.hardware.compile = "cpu", False  # nothing is computed
    cfg.runtime = {"_target_": "fednano.runtime.virtual.Virtual", "compute": "analytic"}
    plain = compose_config(["volatility=none", "energy=none"])
    cfg.volatility, cfg.energy = plain.volatility, plain.energy
    experiment = Experiment(cfg)
    parts = experiment.parts(experiment.prepare(Silent()), MemoryStore())
    size, names = message_bytes(parts), parts.settings.names
    step_s = known(measured.step_s, names)
    up = mbit_s(known(measured.up_s, names), known(measured.up_bytes, names))
    down = mbit_s(known(measured.down_s, names), known(measured.down_bytes, names))
    parts = replace(
        parts,
        volatility=Recorded(measured.windows),
        network=Network(name="recorded", up_mbit_s=up, down_mbit_s=down, latency_s=0.0),
        hardware=replace(parts.hardware, tokens_per_s=tuple(parts.tokens_per_step / s for s in step_s.values())),
    )
    sites = parts.sites(size)
    if transfer_s is not None:  # a live server plans rounds with the configured transfer time
        sites = {name: replace(site, down_s=transfer_s, up_s=transfer_s) for name, site in sites.items()}
    clock, events = VirtualClock(), list[Event]()

    def told(event: Event) -> None:
        events.append(event)
        match event:
            case Evaluated() if event.round == 0:
                clock.charge(max(0.0, measured.begins - clock.now()))
            case RoundMerged() | RoundSkipped():
                clock.charge(measured.between_s)

    play(parts, size, clock, told, sites, live=transfer_s is not None)
    return measure(events)


def known(figures: Mapping[str, float], names: tuple[str, ...]) -> dict[str, float]:
    """A figure by client; a client without one gets the mean of the others."""
    return {name: figures.get(name, mean(figures.values())) for name in names}


def mbit_s(seconds: Mapping[str, float], sizes: Mapping[str, float]) -> list[float]:
    """The bandwidths, in Mbit/s, at which each client's bytes take its seconds."""
    return [sizes[client] * 8e-6 / s if s > 0 else math.inf for client, s in seconds.items()]


def compare(folder: Path) -> dict[str, dict[str, float]]:
    """Each figure as measured and as predicted, and `off`, their ratio minus one.

    Raises ValueError for a folder without a run, or a run that merged nothing.
    """
    events = folder / "events.jsonl"
    if not events.is_file():
        raise ValueError(
            f"folder must hold events.jsonl, got {folder}; name the folder of a run, such as outputs/NAME/DATE_TIME"
        )
    try:
        measured = measure(read_log(events))
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{events} must hold events as a run writes them, got others; restore the file") from error
    predicted = replay(folder, measured)
    step_s = known(measured.step_s, tuple(measured.windows))
    pairs = {
        f"mean {measured.unit}, s": (mean(measured.rounds), mean(predicted.rounds)),
        f"all {measured.unit}s, s": (measured.ends - measured.begins, predicted.ends - predicted.begins),
        "inner steps merged": (sum(measured.steps.values()), sum(predicted.steps.values())),
        "goodput": (measured.goodput(step_s), predicted.goodput(step_s)),
    }
    return {name: {"measured": m, "predicted": p, "off": p / m - 1} for name, (m, p) in pairs.items()}


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code: 1 if a figure is off by more than --within, 2 for bad input."""
    description = "Replay a run's event log on the virtual clock and compare predicted with measured times."
    parser = argparse.ArgumentParser(prog="python -m fednano.fidelity", description=description)
    parser.add_argument("folder", type=Path, help="folder of a run: outputs/NAME/DATE_TIME")
    parser.add_argument(
        "--within",
        type=float,
        default=WITHIN,
        help="exit with 1 if a figure is off by more than this share; default %(default)s",
    )
    parser.add_argument(
        "--allow-module", action="append", default=[], help="a module outside fednano whose classes the run may name"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    chosen = parser.parse_args(arguments)
    allow(chosen.allow_module)
    found = compare(chosen.folder)
    if chosen.json:
        print(json.dumps(found, indent=2))
    else:
        table = Table(title="the virtual clock compared with the measured run")
        for column in ("figure", "measured", "predicted", "off"):
            table.add_column(column, justify="left" if column == "figure" else "right")
        for name, row in found.items():
            table.add_row(name, f"{row['measured']:,.4g}", f"{row['predicted']:,.4g}", f"{100 * row['off']:+.1f} %")
        printer().print(table)
    return int(any(abs(row["off"]) > chosen.within for row in found.values()))


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
