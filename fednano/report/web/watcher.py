"""The runs that are watched: found in folders, read on when somebody looks, and shown as pages."""

import os
import secrets
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from threading import Lock

from fednano.core.clock import wall
from fednano.report.following import FollowedRun, run_folders
from fednano.report.web import watching
from fednano.report.web.templating import template

REPORT = "report.html"
SEARCH_S = 2.0  # between searches for new runs
READ_S = 0.3  # that one look spends on reading event logs
REST = 5.0  # a page that took a while to draw is drawn again after so many times that while
MAX_RUNS = 200


@dataclass(frozen=True)
class View:
    """A page's changing part; `version` is a different one whenever anything in it differs."""

    version: str
    title: str
    html: str


@dataclass
class _Drawn:
    view: View
    key: object
    at: float
    took_s: float


class Watcher:
    """Watches the runs in and below some folders. Reads and draws in the thread that asks; one at a time.

    Args:
        places: run folders, or folders that hold some, also such as will be made there later.
    """

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = tuple(places)
        self._runs: dict[str, FollowedRun] = {}
        self._left_out = 0
        self._searched = -inf
        self._drawn: dict[str, _Drawn] = {}
        self._nonce = secrets.token_hex(4)  # pages of an earlier server know other versions
        self._lock = Lock()

    def runs(self) -> list[FollowedRun]:
        """The runs that there are now, the one that was written last first."""
        with self._lock:
            return self._search()

    def _search(self) -> list[FollowedRun]:
        if wall() - self._searched >= SEARCH_S:
            found = {folder.resolve(): folder for place in self._places for folder in run_folders(place)}
            newest = sorted(found.values(), key=_written, reverse=True)
            known = {run.folder: run for run in self._runs.values()}
            runs = [known.get(folder) or FollowedRun(folder) for folder in newest[:MAX_RUNS]]
            self._runs = {run.id: run for run in runs}
            self._left_out = len(newest) - len(runs)
            self._drawn = {key: drawn for key, drawn in self._drawn.items() if key in self._runs or not key}
            self._searched = wall()
        return list(self._runs.values())

    def overview(self) -> View:
        """The list of runs. Those written last are read first; the others follow when it is asked for again."""
        with self._lock:
            runs, until = self._search(), wall() + READ_S
            for run in runs:
                run.follow(max(0.0, until - wall()))
            key = (self._left_out, *((run.id, run.version) for run in runs))
            return self._draw(
                "", key, lambda: (watching.runs_title(runs), watching.runs_fragment(runs, self._left_out))
            )

    def run(self, id_: str) -> View | None:
        """A run's page; None if there is no such run."""
        with self._lock:
            self._search()
            if (run := self._runs.get(id_)) is None:
                return None
            run.follow(READ_S)
            has_report = not run.running and self._report(run) is not None
            return self._draw(
                id_,
                (run.version, has_report),
                lambda: (watching.run_title(run), watching.run_fragment(run, has_report)),
            )

    def _draw(self, name: str, key: object, draw: Callable[[], tuple[str, str]]) -> View:
        drawn = self._drawn.get(name)
        if drawn and (drawn.key == key or wall() - drawn.at < REST * drawn.took_s):
            return drawn.view
        begun = wall()
        title, html = draw()
        number = int(drawn.view.version.partition("-")[2]) + 1 if drawn else 0
        view = View(f"{self._nonce}-{number}", title, html)
        self._drawn[name] = _Drawn(view, key, at=wall(), took_s=wall() - begun)
        return view

    def report(self, id_: str) -> bytes | None:
        """The report in a run's folder; None without such a run or report."""
        with self._lock:
            self._search()
            run = self._runs.get(id_)
        return self._report(run, whole=True) if run else None

    def _report(self, run: FollowedRun, whole: bool = False) -> bytes | None:
        """The bytes of the run's report, none of them unless `whole`. None without one, or for a link elsewhere."""
        try:
            descriptor = os.open(run.folder / REPORT, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            return file.read() if whole else b""


def page(view: View, data: str) -> str:
    """A whole page that shows a view and asks `data` for what follows."""
    return template("watch.html.j2").render(title=view.title, version=view.version, data=data, fragment=view.html)


def _written(folder: Path) -> float:
    try:
        return (folder / "events.jsonl").stat().st_mtime
    except OSError:
        return 0.0
