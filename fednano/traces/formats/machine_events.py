"""Spot instances that were added and removed, as Bamboo and Parcae record them.

Documented by their code: lines `MILLISECONDS,add|remove,NODE` at https://github.com/uclasystem/bamboo (Thorpe et al.,
NSDI 2023) and https://github.com/JF-D/Parcae (Duan et al., NSDI 2024), and lines of JSON
`[MILLISECONDS, "add"|"remove", {"nodes": [NODE, …]}]` in Parcae's folder aws/traces.
"""

import json
import math
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from fednano.core.text import brief

_LINE = re.compile(r"\s*\"?(?P<ms>\d+(?:\.\d+)?)\"?\s*,\s*\"?(?P<what>\w+)\"?\s*,\s*\"?(?P<node>[^\",]+?)\"?\s*")
_CHANGES = ("add", "remove")
_PAUSES = ("no-op", "migration")  # of Parcae's replay: no machine comes or goes


@dataclass(frozen=True, kw_only=True)
class MachineEvent:
    """A machine that comes or goes `at_s` seconds after the record began, in this line of the file."""

    line: int
    at_s: float
    node: str
    change: Literal["add", "remove"]


MachineSpan = tuple[int, float, float]  # (line, start, stop) in seconds; infinite if the machine was not removed


def are_events(text: str) -> bool:
    """Whether the first line that is no comment adds or removes a machine."""
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    match = _LINE.fullmatch(first)
    return bool(match and match["what"] in _CHANGES) or bool(
        re.match(r'\s*\[\s*\d[\d.]*\s*,\s*"[\w-]+"\s*,\s*\{', first)
    )


def read_events(text: str, file: str) -> tuple[list[MachineEvent], float]:
    """The events, and the seconds at which the record ends. Raises ValueError, which names file, row and remedy."""
    events: list[MachineEvent] = []
    end_s, last_s = 0.0, 0.0
    for line, row in enumerate(text.splitlines(), start=1):
        if not row.strip() or row.startswith("#"):
            continue
        at_s, what, nodes, ends_s = _parsed(row, line, file)
        if at_s < last_s:
            raise ValueError(f"{file}, row {line}: {at_s:g} s is earlier than the row before it; sort the rows")
        last_s, end_s = at_s, max(end_s, ends_s)
        for node in nodes:
            events.append(MachineEvent(line=line, at_s=at_s, node=node, change=what))  # type: ignore[arg-type]
    if not events:
        raise ValueError(f"{file} adds no machine; give lines such as 60000,add,node1")
    return events, end_s


def _parsed(row: str, line: int, file: str) -> tuple[float, str, list[str], float]:
    """(seconds, change, machines, seconds until which the row is known to hold) of a row."""
    if match := _LINE.fullmatch(row):
        at_s, what, nodes, lasts_s = float(match["ms"]) / 1000, match["what"], [match["node"]], 0.0
    else:
        at_s, what, nodes, lasts_s = _parsed_json(row, line, file)
    if what not in (*_CHANGES, *_PAUSES):
        raise ValueError(f"{file}, row {line}: a machine is added or removed, got {brief(what)}; write add or remove")
    return at_s, what, nodes if what in _CHANGES else [], at_s + lasts_s


def _parsed_json(row: str, line: int, file: str) -> tuple[float, str, list[str], float]:
    try:
        milliseconds, what, details = json.loads(row)
        nodes, lasts_ms = [str(node) for node in details["nodes"]], float(details.get("duration", 0))
        if not 0 <= milliseconds < math.inf or not 0 <= lasts_ms < math.inf:
            raise ValueError("not a time")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{file}, row {line}: expected MILLISECONDS,add,NODE or MILLISECONDS,remove,NODE, got {brief(row)}; "
            "correct the row"
        ) from error
    return milliseconds / 1000, str(what), nodes, lasts_ms / 1000


def by_machine(events: list[MachineEvent], file: str) -> dict[str, list[MachineSpan]]:
    """When each machine was there. Raises ValueError if one is added twice, or removed before it was added."""
    spans: dict[str, list[MachineSpan]] = {}
    for event, span in _spans(events, file):
        spans.setdefault(event.node, []).append(span)
    return {node: sorted(found, key=lambda span: span[1]) for node, found in spans.items()}


def by_place(events: list[MachineEvent], file: str) -> dict[str, list[MachineSpan]]:
    """When each of as many places as machines were there at once had one.

    A machine takes the place that has been free for longest, as in Parcae's replay; a place that became free at the
    same moment is not taken, so that its client notices.
    """
    free: deque[tuple[float, str]] = deque()
    spans: dict[str, list[MachineSpan]] = {}
    found_at = {(event.node, span[1]): span for event, span in _spans(events, file)}
    held: dict[str, str] = {}
    for event in events:
        if event.change == "remove":
            free.append((event.at_s, held.pop(event.node)))
            continue
        if free and free[0][0] < event.at_s:
            place = free.popleft()[1]
        else:
            place = str(len(spans))
            spans[place] = []
        held[event.node] = place
        if span := found_at.get((event.node, event.at_s)):
            spans[place].append(span)
    return {place: found for place, found in spans.items() if found}


def _spans(events: list[MachineEvent], file: str) -> Iterator[tuple[MachineEvent, MachineSpan]]:
    """The event that added a machine, and (line, start, stop) of the time that it was there."""
    there: dict[str, MachineEvent] = {}
    for event in events:
        if (event.node in there) == (event.change == "add"):
            what = "added again before it was removed" if event.change == "add" else "removed, but was not there"
            raise ValueError(f"{file}, row {event.line}: {event.node} is {what}; correct the row")
        if event.change == "add":
            there[event.node] = event
            continue
        added = there.pop(event.node)
        if event.at_s > added.at_s:
            yield added, (added.line, added.at_s, event.at_s)
    for added in there.values():
        yield added, (added.line, added.at_s, math.inf)
