"""Runs that are followed through their folders while other processes write them."""

import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from fednano.core.claim import claimant_lives
from fednano.core.clock import age_s, wall
from fednano.core.event_log import DamagedLogError, from_record, used
from fednano.core.events import Evaluated, RoundMerged
from fednano.core.files import read_json, read_text
from fednano.core.lines import Lines
from fednano.report.comparison.runs import read_config
from fednano.report.history import History
from fednano.report.web.page import experiment_name

EVENTS, SUMMARY, ENERGY, CONFIG = "events.jsonl", "summary.json", "energy.json", "config.yaml"
CHUNK = 1 << 18  # bytes of an event log that are read at a time
SILENT_S = 600.0  # a run whose process cannot be seen counts as running if it wrote its log within this time
DEPTH = 6  # folders within each other that are searched for runs
ID = 12  # characters
RUNNING, UNFINISHED, WAITING = "running", "unfinished", "waiting"


class FollowedRun:
    """One run, from what its folder holds. `follow` reads on; everything else tells what has been read.

    `version` changes whenever anything about the run does.

    Args:
        folder: the run folder; it may hold nothing yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = sha256(os.fsencode(folder.resolve())).hexdigest()[:ID]
        self.version = 0
        self.status = WAITING
        self._told: object = None
        self._configured: tuple[object, dict[str, Any]] = (None, {})  # the stamp of the file, and what it held
        self._begin()

    def _begin(self) -> None:
        self.history = History()
        self.wall_s = 0.0  # of merged rounds and evaluations
        self.fault = ""
        self.behind = 0  # bytes of the log that are yet to be read
        self._lines = Lines(self.folder / EVENTS)
        self._number = 0
        self.version += 1

    @property
    def name(self) -> str:
        """Of the experiment."""
        return experiment_name(self.folder, self._config)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration with flat keys, the same object until its file changes; empty without one."""
        stamp = self._stamp(CONFIG)
        if stamp != self._configured[0]:
            try:
                self._configured = stamp, read_config(self.folder)
            except (ValueError, OSError):  # of another program, or gone meanwhile
                self._configured = stamp, {}
        return self._configured[1]

    @property
    def running(self) -> bool:
        return self.status in (RUNNING, WAITING)

    def follow(self, seconds: float) -> None:
        """Read what is new, for at most about so many seconds. Reads everything again if the log was truncated."""
        until = wall() + seconds
        try:
            while not self.fault and (lines := self._lines.more(CHUNK)) != []:
                if lines is None:
                    self._begin()
                else:
                    self._add(lines)
                if wall() >= until:
                    break
            self._settle()
        except OSError as error:  # removed meanwhile, or not to be read by this user
            self.fault = f"{EVENTS} cannot be read: {error.strerror}"
        told = (self.status, self.fault, self.behind, self._stamps())
        if told != self._told:
            self._told, self.version = told, self.version + 1

    def _add(self, lines: Sequence[bytes]) -> None:
        self.version += 1
        for line in lines:
            self._number += 1
            try:
                used(self.folder / EVENTS, self._number, line, self._use)
            except DamagedLogError as error:
                self.fault = f"{error}. What follows is left out."
                return

    def _use(self, record: dict[str, Any]) -> None:
        event = from_record(record)
        self.history.add(event)
        if isinstance(event, RoundMerged | Evaluated):
            self.wall_s += event.wall_s

    def _settle(self) -> None:
        """Find out what has become of the run."""
        path = self.folder / EVENTS
        size = path.stat().st_size if path.exists() else 0
        self.behind = 0 if self.fault else max(0, size - self._lines.read_bytes)
        self.status = self._state(path)

    def _state(self, path: Path) -> str:
        lives, end = claimant_lives(self.folder), self.history.figures.end
        summary = self.summary()
        if end is not None and lives:
            return end.status  # what summary there is may be of the time before it was resumed
        if end is not None or (lives is False and summary):
            # A summary may tell of a failure after the last event.
            return str(summary.get("status") or (end.status if end else UNFINISHED))
        if lives or (lives is None and path.exists() and age_s(path) < SILENT_S and not summary):
            return RUNNING if self.history.figures.run else WAITING
        return str(summary.get("status") or UNFINISHED)

    def summary(self) -> dict[str, Any]:
        """`summary.json`, which in a resumed run is of the time before; empty without one."""
        return self._object(SUMMARY)

    def energy(self) -> dict[str, Any]:
        """The consumption that a running run tells in `energy.json`; empty without one."""
        found = self._object(ENERGY).get("so_far")
        return found if isinstance(found, dict) else {}

    def _object(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        try:
            return read_json(path, "") if path.exists() else {}
        except (ValueError, OSError):  # of another program, or gone meanwhile
            return {}

    def _stamps(self) -> tuple[object, ...]:
        """What changes when a file besides the event log does."""
        return tuple(map(self._stamp, (SUMMARY, ENERGY, CONFIG, "report.html")))

    def _stamp(self, name: str) -> object:
        try:
            found = (self.folder / name).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    @property
    def _config(self) -> str:
        path = self.folder / CONFIG
        try:
            return read_text(path, "") if path.exists() else ""
        except (ValueError, OSError):
            return ""


def is_run(folder: Path) -> bool:
    """Whether a run writes this folder, or has written it."""
    return (folder / EVENTS).is_file()


def run_folders(place: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The folders of runs in or below a folder, without what is inside of them, links and hidden folders."""
    if is_run(place):
        yield place
        return
    if not depth:
        return
    try:
        inside = sorted(Path(entry.path) for entry in os.scandir(place) if entry.is_dir(follow_symlinks=False))
    except OSError:  # removed meanwhile, or not to be read by this user
        return
    for folder in inside:
        if not folder.name.startswith("."):
            yield from run_folders(folder, depth - 1)
