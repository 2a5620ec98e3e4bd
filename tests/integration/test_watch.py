"""Watching runs: the command as a user types it, and its page in a browser while a run trains."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.awaiting import until
from support.browser import CHROMIUM, DESKTOP, PHONE, Browser, browser
from support.event_logs import volatile_run
from support.pages import write_run

from fednano.report.following import FollowedRun

Command = Callable[..., subprocess.CompletedProcess[str]]
# A run that stops after its second merge until a line comes.
GATED = """
import sys
from fednano.core.event_log import EventLog
from fednano.core.events import RoundMerged
append = EventLog.append
def gated(self, event):
    append(self, event)
    if isinstance(event, RoundMerged) and event.round == 1 and self._file:
        self.flush()
        sys.stdin.readline()
EventLog.append = gated
from fednano.run import main
sys.exit(main())
"""


@contextmanager
def watching(*places: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and the address that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fednano.watch", *map(str, places)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout
            told = process.stdout.readline().split()
            assert told[:-1] == ["watching"]
            yield process, told[-1]
        finally:
            process.kill()


def test_a_folder_without_a_run_or_a_port_that_is_none_is_refused_in_one_line(command: Command, tmp_path: Path) -> None:
    for arguments, line in (
        ([str(tmp_path)], f"fednano: RUN_DIR must be or hold the folder of a run, got {tmp_path}; name runs"),
        (["absent"], "fednano: RUN_DIR must be or hold the folder of a run, got absent, which does not exist; name"),
    ):
        done = command("watch", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith(line)
        assert done.stderr.count("\n") == 1
    write_run(tmp_path / "run", volatile_run(rounds=1))
    done = command("watch", "run", "--port", "70000", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--port must be from 0 to 65535, got 70000" in done.stderr
    done = command("watch", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "RUN_DIR" in done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_quietly(tmp_path: Path, number: signal.Signals, code: int) -> None:
    run = write_run(tmp_path / "run", volatile_run(rounds=1))
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    with watching(run) as (process, _):
        process.send_signal(number)
        out, err = process.communicate()
    assert (process.returncode, err) == (code, "")
    assert "Traceback" not in out
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_a_run_that_is_killed_is_unfinished_at_once(tiny: list[str], tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", GATED, *tiny, "rounds=4", "hydra.run.dir=run"],
        cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with process:
        run = FollowedRun(tmp_path / "run")

        def merges() -> int:
            run.follow(60.0)
            return run.history.figures.merged

        until(lambda: merges() == 2)
        assert run.status == "running"
        assert run.energy()["energy_kwh"] > 0.0
        process.kill()
        process.wait()
        run.follow(60.0)
        assert run.status == "unfinished"


def fits(page: Browser) -> bool:
    return bool(page.ask("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def background(page: Browser) -> int:
    """How light the page is."""
    return sum(int(part) for part in page.ask("getComputedStyle(document.body).backgroundColor.match(/\\d+/g)"))


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_a_browser_sees_a_run_appear_grow_and_end(tiny: list[str], tmp_path: Path) -> None:
    runs = tmp_path / "outputs"
    write_run(runs / "earlier", volatile_run(rounds=3), config="name: earlier\n")
    with watching(runs) as (watcher, address), browser(tmp_path / "profile") as page:
        page.open(address)
        page.until("document.querySelector('h1')?.textContent.includes('earlier')")  # it is alone
        page.open(f"{address}runs")
        process = subprocess.Popen(
            [sys.executable, "-c", GATED, *tiny, "name=growing", "rounds=5", f"hydra.run.dir={runs / 'growing'}"],
            cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        with process:
            page.until("document.querySelectorAll('a.run').length === 2")
            page.until("[...document.querySelectorAll('a.run')].find((a) => /growing.*running/s.test(a.textContent))")
            page.ask("[...document.querySelectorAll('a.run')].find((a) => /growing/.test(a.textContent)).click()")
            page.until("document.getElementById('ended')?.textContent === 'round 2/5'")
            assert page.ask("document.title").startswith("▶ round 2/5 · growing · running")
            assert page.text("#status") == "▶ running"
            labels = page.ask("[...document.querySelectorAll('.tile .label')].map((tile) => tile.textContent)")
            assert {"Clients up", "Training loss", "Sent by clients", "Energy used", "CO₂ emitted"} <= set(labels)
            assert page.ask("document.querySelectorAll('#map .cell.done').length") == 2
            assert page.ask("document.querySelectorAll('#timeline .lane .work').length") > 0
            assert page.text("a.report") == ""
            page.ask("document.querySelector('label[for=axis-time]').click()")
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
            page.until("document.title.startsWith('✓ round 5/5 · growing · completed')")
            assert process.wait() == 0
        page.until("document.querySelector('a.report')")
        assert page.ask("document.querySelectorAll('#map .cell.done').length") == 5
        assert page.ask("document.getElementById('axis-time').checked")  # what the reader chose has stayed
        light = background(page)
        assert fits(page)
        page.resize(PHONE, dark=True)
        assert fits(page)
        assert background(page) < light / 2
        page.resize(DESKTOP, dark=False)
        page.ask("document.querySelector('a.report').click()")
        page.until("document.title.startsWith('growing · completed')")
        assert page.ask("getComputedStyle(document.querySelector('.tile')).borderStyle") == "solid"
        assert page.ask("window.origin") == "null"
        page.open(f"{address}runs")
        os.kill(watcher.pid, signal.SIGINT)
        assert watcher.wait() == 0
        page.until("document.getElementById('link').textContent.includes('no longer watching')")
    assert [error for error in page.errors if "ERR_CONNECTION_REFUSED" not in error] == []
