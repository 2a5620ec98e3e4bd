"""The live display on terminals of all sizes and encodings, and the strips of what each client did."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from rich.console import Console as RichConsole
from support.event_logs import steps_of, summary_of, volatile_run
from support.inner_steps import step_of

from fednano.core.events import (
    ClientDown,
    ClientUp,
    Event,
    LeaseReleased,
    RoundMerged,
    RunStarted,
    UpdateFolded,
    WorkDispatched,
)
from fednano.report.figures import figures_of
from fednano.report.terminal.console import Console
from fednano.report.terminal.glyphs import ASCII, UNICODE
from fednano.report.terminal.strips import ROUNDS, Strips

FOLDER = Path("outputs/quickstart/now")
ENERGY = {"energy_kwh": 0.0421, "co2_g": 12.3}
NAMES = ("{}", "client_{}", "a-site-with-a-very-long-name-in-the-north-{}")


def played(width: int, height: int, clients: int, name: str = "client_{}", encoding: str = "utf-8") -> list[str]:
    """The lines that a live display of this size shows in the middle of a run."""
    screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    out = RichConsole(force_terminal=True, width=width, height=height, file=screen)
    console = Console("an experiment with a name that is rather long for a title", FOLDER, out, lambda: ENERGY)
    # The last round is left in the middle, with updates out.
    for event in volatile_run(rounds=12, clients=tuple(name.format(k) for k in range(clients)))[: -clients - 3]:
        for step in steps_of([event]):
            console.step(step)
        console.event(event)
    lines = shown(console, width, height, encoding)
    console.stop()
    return lines


def shown(console: Console, width: int = 80, height: int = 24, encoding: str = "utf-8") -> list[str]:
    """What the live display holds now."""
    page = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    RichConsole(file=page, width=width, height=height).print(console._render())
    page.seek(0)
    return page.read().splitlines()


@pytest.mark.parametrize("height", [10, 14, 24, 60])
@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize(("clients", "name"), [(4, NAMES[1]), (100, NAMES[1]), (12, NAMES[2]), (2, NAMES[0])])
def test_the_display_fits_any_terminal_and_breaks_no_column(width: int, height: int, clients: int, name: str) -> None:
    lines = played(width, height, clients, name)
    assert len(lines) < height
    assert {cell_len(line) for line in lines} == {width}
    [head] = [k for k, line in enumerate(lines) if line.startswith("│ client ")]
    rows = [line for line in lines[head + 1 :] if any(f"{m} {s}" in line for s, m in UNICODE.marks.items())]
    assert rows
    rest = [line for line in lines if " more: " in line]
    assert bool(rest) == (len(rows) < clients)
    for line in rest:
        assert line.startswith(f"│ and {clients - len(rows)} more: ")
    # Each figure stands whole under its head, which ends in the same column.
    columns = lines[head].rstrip("│ ").split()
    for row in rows:
        assert "…" not in row.replace(row.split()[1], "", 1)  # but for the name, which may be cut
        for column in set(columns) & {"steps", "loss", "sent", "share", "tokens", "rows"}:
            end = lines[head].index(f" {column}") + 1 + len(column)
            assert row[end - 1] not in " │"
            assert row[end] == " "


def test_wide_terminals_show_more_of_each_client() -> None:
    heads = {width: next(line for line in played(width, 24, 4) if "client " in line) for width in (40, 60, 80, 120)}
    assert "steps" not in heads[40]
    assert "loss" in heads[60] and "sent" not in heads[60]
    assert "sent" in heads[80] and "share" not in heads[80]
    assert "rows" in heads[120]


def test_a_strip_shows_what_a_client_did_and_the_energy_is_told() -> None:
    lines = played(80, 24, 4)
    text = "\n".join(lines)
    assert "energy 42.1 Wh   CO₂ 12.3 g" in text
    assert "goodput " in text
    strips = [line for line in lines if "client_" in line]
    assert all(UNICODE.cells["training"] in line for line in strips)
    assert any(UNICODE.cells["crashed"] in line.partition("  ")[2] for line in strips)
    assert "█ training   ▒ sending, receiving   ─ idle   · down   ✕ crash" in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_an_encoding_without_blocks_gets_ascii(encoding: str) -> None:
    lines = played(80, 24, 4, encoding=encoding)
    assert all(line.isascii() for line in lines)
    assert any("#" in line and "client_1" in line for line in lines)
    assert any("CO2 12.3 g" in line for line in lines)


def test_the_end_is_ascii_where_the_encoding_is(tmp_path: Path) -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    events = volatile_run(rounds=4)
    console = Console("quickstart", tmp_path, RichConsole(file=screen, width=50))
    for event in events:
        console.event(event)
    console.close(summary_of(events))
    screen.flush()
    text = screen.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert " -> " in text
    assert "; lower is better)" in " ".join(text.split())


def test_a_client_that_took_all_of_its_steps_is_sending() -> None:
    out = RichConsole(force_terminal=True, width=80, height=24, file=io.StringIO())
    console = Console("quickstart", FOLDER, out)
    events = volatile_run(rounds=2)
    sent = next(k for k, e in enumerate(events) if isinstance(e, WorkDispatched))
    for event in events[: sent + 1]:
        console.event(event)
    client = events[sent].client  # type: ignore[attr-defined]
    for step, state in ((24, "● training"), (25, "↑ sending")):
        console.step(step_of(client, 0, step, 25, 3.0, 10))
        [row] = [line for line in shown(console) if client in line]
        assert state in row
    console.stop()


def test_a_terminal_that_goes_away_ends_nothing(tmp_path: Path) -> None:
    # A child of its own, since the interpreter's own streams are replaced.
    script = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from fednano.core.output import tolerate_output; tolerate_output()\n"
        "from pathlib import Path\n"
        "from support.event_logs import volatile_run, summary_of\n"
        "from fednano.report.terminal.console import Console\n"
        "events = volatile_run(rounds=6)\n"
        "console = Console('quickstart', Path('.'))\n"
        "for k, event in enumerate(events):\n"
        "    console.event(event)\n"
        "    if k == 9: print(flush=True); input()\n"
        "console.close(summary_of(events)); Path('done').touch()\n"
    )
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(Path(__file__).parents[2])],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=follower,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "utf-8"},
    )
    os.close(follower)
    seen = b""
    while b"client" not in seen:
        seen += os.read(leader, 4096)
    os.close(leader)
    with process:
        _, said = process.communicate(b"\n")
    assert (process.returncode, said) == (0, b"")
    assert (tmp_path / "done").exists()


def started(*clients: str) -> Event:
    [run, *_] = volatile_run(rounds=1)
    assert isinstance(run, RunStarted)
    return replace(run, clients=clients)


def merged(t: float) -> Event:
    found = next(e for e in volatile_run(rounds=1) if isinstance(e, RoundMerged))
    return replace(found, t=t)


def sent(t: float, client: str, lease: int) -> Event:
    return WorkDispatched(t=t, round=0, client=client, lease=lease, version=0, steps=5, bytes=0)


def folded(client: str, lease: int, busy: tuple[float, float], t: float) -> Event:
    found = next(e for e in volatile_run(rounds=1) if isinstance(e, UpdateFolded))
    return replace(found, t=t, client=client, lease=lease, busy_from=busy[0], busy_until=busy[1])


def test_a_cell_is_what_took_most_of_its_time() -> None:
    strips = Strips()
    for event in (
        started("a", "b"),
        ClientUp(t=10.0, client="a"),
        sent(20.0, "a", 1),
        folded("a", 1, (30.0, 60.0), 70.0),
        sent(80.0, "a", 2),
        ClientDown(t=95.0, client="a", exit="crash"),
        merged(100.0),
    ):
        strips.event(event)
    moving, training = ["moving"], 3 * ["training"]
    wanted = ["down", "idle", *moving, *training, *moving, "idle", "training", "crashed"]
    assert strips.cells("a", 10) == wanted
    assert strips.cells("b", 10) == 10 * ["down"]
    assert strips.cells("nobody", 10) == []


def test_work_that_is_out_counts_as_training_until_it_is_released() -> None:
    strips = Strips()
    for event in (started("a"), ClientUp(t=0.0, client="a"), sent(0.0, "a", 1), merged(40.0)):
        strips.event(event)
    assert strips.cells("a", 4) == 4 * ["training"]
    strips.event(LeaseReleased(t=40.0, round=0, client="a", lease=1, reason="expired"))
    strips.event(merged(80.0))
    assert strips.cells("a", 4) == ["training", "training", "idle", "idle"]


def test_a_strip_covers_the_last_rounds_and_keeps_little() -> None:
    strips = Strips(most=1)
    strips.event(started("a", "b"))
    for k in range(5000):
        strips.event(ClientUp(t=10.0 * k, client="a"))
        strips.event(sent(10.0 * k, "a", k))
        strips.event(folded("a", k, (10.0 * k, 10.0 * k + 5), 10.0 * k + 5))
        strips.event(ClientDown(t=10.0 * k + 8, client="a", exit="drain"))
        strips.event(merged(10.0 * k + 10))
    assert strips.now - strips.since == 10.0 * ROUNDS
    assert strips.cells("a", 2 * ROUNDS) == ROUNDS * ["training", "idle"]
    assert strips.cells("b", 10) == []
    assert sum(len(of) for of in (strips._tracks["a"].up, strips._tracks["a"].work)) <= 1024


def test_goodput_so_far_is_merged_steps_over_those_that_were_possible() -> None:
    events = (
        started("a", "b"),
        ClientUp(t=0.0, client="a"),
        ClientUp(t=50.0, client="b"),  # counts as being as fast as the other
        sent(0.0, "a", 1),
        replace(folded("a", 1, (0.0, 50.0), 60.0), steps=100),
        replace(merged(100.0), leases=(1,), steps=100),
    )
    assert figures_of(events[:3]).goodput() is None
    assert figures_of(events).goodput() == pytest.approx(100 / (200 + 100))


def test_a_name_loses_its_middle() -> None:
    assert UNICODE.fitted("client_12", 9) == "client_12"
    assert UNICODE.fitted("a-rather-long-site-07", 9) == "a-ra…e-07"
    assert ASCII.fitted("a-rather-long-site-07", 9) == "a-ra~e-07"
    assert cell_len(UNICODE.fitted("東京データセンター01", 9)) <= 9
    assert UNICODE.fitted("abc", 0) == ""
