"""When each spot instance of a published trace was there."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fednano.core.text import shown
from fednano.traces.formats import machine_events, skypilot
from fednano.traces.formats.machine_events import MachineSpan
from fednano.traces.formats.recognise import parsed
from fednano.traces.rows import read_text


@dataclass(frozen=True)
class SpotRecord:
    """A recording.

    Args:
        spans: when each machine was there, in order; a machine that was there at the end stops at infinity.
        end_s: when the record ends, seconds.
        publisher: whose file it is.
    """

    spans: dict[str, list[MachineSpan]]
    end_s: float
    publisher: str

    def described(self, file: str) -> str:
        """The file, its machines and its length, on one line."""
        lives = sum(len(spans) for spans in self.spans.values())
        return (
            f"{shown(file)}: {lives:,} times up of {len(self.spans):,} machines, 0 s to {self.end_s:,.6g} s; "
            f"{self.publisher}"
        )


def read_spot(file: str, match: Literal["name", "turn"]) -> SpotRecord | None:
    """The record in a trace of SkyPilot, Bamboo or Parcae; None if the file is none of theirs.

    SkyPilot counts instances: machine k is there while k or more are available. Bamboo and Parcae name machines, which
    with `match` turn share as many places as there were machines at once.

    Raises ValueError, which names file, row and remedy.
    """
    text = read_text(file)
    document = parsed(text, file)
    if counted := skypilot.counts(document, file):
        return _counted(*counted, file)
    if document is not None and not isinstance(document, list):
        raise ValueError(f"{file} is no trace of spot instances; read it with volatility=trace")
    if not machine_events.are_events(text):
        return None
    events, end_s = machine_events.read_events(text, file)
    spans = (machine_events.by_machine if match == "name" else machine_events.by_place)(events, file)
    return SpotRecord(spans, end_s, "machines added and removed, as by Bamboo and Parcae")


def _counted(gap_s: float, available: Sequence[int], file: str) -> SpotRecord:
    most = max(available, default=0)
    if most == 0:
        raise ValueError(f"{file} never has an instance; use another trace")
    changes = [at for at, (a, b) in enumerate(itertools.pairwise((0, *available))) if a != b]
    spans: dict[str, list[MachineSpan]] = {str(machine): [] for machine in range(most)}
    since: dict[int, int] = {}
    for at in changes:
        for machine in range(most):
            if machine < available[at]:
                since.setdefault(machine, at)
            elif machine in since:
                begun = since.pop(machine)
                spans[str(machine)].append((begun + 1, begun * gap_s, at * gap_s))
    for machine, begun in sorted(since.items()):
        spans[str(machine)].append((begun + 1, begun * gap_s, float("inf")))
    return SpotRecord(spans, len(available) * gap_s, "SkyPilot's instances available")
