"""The audit of event logs: what real and made ones prove, and each kind of violation, made by hand."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.event_logs import centralized_run, volatile_run

from fednano.core.event_log import EventLog
from fednano.core.events import Event, LeaseGranted, LeaseReleased, RoundMerged, RunEnded, UpdateFolded
from fednano.report.__main__ import main
from fednano.report.audit import DONE, FREE, NEW, AuditedPiece, Position, _AuditedPool, audit, audit_log


def granted(lease: int, *spans: tuple[int, int, int]) -> LeaseGranted:
    return LeaseGranted(t=0.0, round=0, client="a", lease=lease, pool=0, spans=spans, expires=9.0)


def folded(lease: int, row: int, token: int = 0, left: tuple[tuple[int, int, int], ...] = ()) -> UpdateFolded:
    return UpdateFolded(
        t=1.0,
        round=0,
        client="a",
        lease=lease,
        version=0,
        steps=1,
        tokens=8,
        row=row,
        token=token,
        left=left,
        weight=1.0,
        norm=1.0,
        train_loss=1.0,
        drained=False,
        bytes=0,
        busy_from=0.0,
        busy_until=1.0,
    )


def merged(*leases: int, tokens: int | None = None) -> RoundMerged:
    total = 8 * len(leases) if tokens is None else tokens
    return RoundMerged(
        t=2.0,
        round=0,
        version=1,
        leases=leases,
        steps=1,
        tokens=total,
        tokens_total=total,
        norm=1.0,
        train_loss=1.0,
        lr_scale=1.0,
    )


def released(lease: int) -> LeaseReleased:
    return LeaseReleased(t=2.0, round=0, client="a", lease=lease, reason="crash")


ENDED = RunEnded(t=3.0, status="completed", rounds=1, tokens_total=8)


def sound() -> list[Event]:
    """Rows 0 to 10 trained but for row 3, which comes second; rows 10 to 20 lost in a crash and given anew."""
    return [
        granted(0, (0, 0, 10)),
        granted(1, (10, 0, 20)),
        folded(0, 7, 5, left=((3, 0, 4),)),
        released(1),
        merged(0),
        granted(2, (3, 0, 4), (7, 5, 30)),
        folded(2, 30),
        merged(2),
        ENDED,
    ]


def test_a_sound_event_log_has_no_violation() -> None:
    checked = audit(sound())
    assert checked.violations == []
    assert checked.rows_done == 30
    assert not checked.open_leases
    assert checked.events == 9
    assert audit(sound()[:5]).rows_done == 6


def test_made_event_logs_are_sound() -> None:
    assert audit(volatile_run(30)).violations == []
    assert audit(centralized_run()).violations == []


TAMPERED: list[tuple[Callable[[list[Event]], list[Event]], list[str]]] = [
    (lambda e: [e[0], replace(e[1], spans=((9, 0, 20),)), *e[3:4]], ["line 2: lease 1 overlaps lease 0"]),
    (
        lambda e: [*e[:5], replace(e[5], spans=((3, 0, 4), (6, 0, 30)))],
        ["line 6: lease 2 covers rows that are trained"],
    ),
    (lambda e: [*e[:5], replace(e[5], lease=1), released(1)], ["line 6: lease 1 is granted after lease 1"]),
    (
        lambda e: [e[0], replace(e[1], spans=((12, 0, 20),)), *e[2:5]],
        ["line 2: pool 0 loses rows 10 to 12, which no lease was granted"],
    ),
    (
        lambda e: [*e[:5], replace(e[5], spans=((7, 5, 30),))],
        ["line 6: pool 0 loses rows 3 to 4, which were given back, for new rows"],
    ),
    (lambda e: [*e[:3], e[2], *e[3:]], ["line 4: lease 0 is accumulated twice"]),
    (lambda e: [folded(0, 3), *e], ["line 1: lease 0 is accumulated but not in force"]),
    (lambda e: [*e[:8], merged(2), ENDED], ["line 9: lease 2 is merged but not in force"]),
    (lambda e: [*e[:6], merged(2)], ["line 7: lease 2 is merged without an update"]),
    (lambda e: [*e[:4], merged(0, tokens=9), *e[5:]], ["line 5: round 0 merges 9 tokens, its updates hold 8"]),
    (lambda e: [*e[:4], released(1), *e[4:]], ["line 5: lease 1 is released but not in force"]),
    (lambda e: [*e[:7], ENDED], ["line 8: lease 2 is in force at the end of the run: its rows are lost"]),
    (
        lambda e: [granted(0, (0, 0, 10)), folded(0, 11), merged(0)],
        ["line 3: lease 0 ends at (11, 0) or leaves rows that are not its own"],
    ),
    (
        lambda e: [granted(0, (0, 0, 10)), folded(0, 5, left=((4, 0, 6),)), merged(0)],
        ["line 3: lease 0 ends at (5, 0) or leaves rows that are not its own"],
    ),
    (
        lambda e: [granted(0, (0, 0, 10)), granted(1, (5, 0, 10)), folded(0, 10), folded(1, 10), merged(0, 1)],
        ["line 2: lease 1 overlaps lease 0", "line 5: lease 1 trains rows twice"],
    ),
]


@pytest.mark.parametrize(("tamper", "violations"), TAMPERED, ids=[v[-1].partition(": ")[2] for _, v in TAMPERED])
def test_a_tampered_event_log_is_found_out(tamper, violations: list[str], tmp_path: Path, capsys) -> None:
    write(tmp_path, tamper(sound()))
    assert main(["--audit", str(tmp_path)]) == 1
    *lines, summary = capsys.readouterr().out.splitlines()
    assert lines == violations
    assert summary.startswith(f"{len(violations)} violation")


def write(folder: Path, events: list[Event]) -> None:
    event_log = EventLog(folder / "events.jsonl")
    for event in events:
        event_log.append(event)
    event_log.close()


def test_a_log_without_events_is_not_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "events.jsonl").touch()
    assert main(["--audit", str(tmp_path)]) == 2
    assert "must hold the events of a run, got none; restore it" in capsys.readouterr().err


def test_the_command_says_that_all_is_well(tmp_path: Path) -> None:
    write(tmp_path, volatile_run(20))
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"event": "LeaseGr')
    line = [sys.executable, "-m", "fednano.report", "--audit", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("0 violations in ")
    assert done.stdout.endswith("0 leases in force, the last line is torn\n")


def test_no_event_log_or_a_damaged_one_is_bad_input(tmp_path: Path, capsys) -> None:
    assert main(["--audit", str(tmp_path)]) == 2
    (tmp_path / "events.jsonl").write_text('{"event": "RoundMerged"}\n')
    assert main(["--audit", str(tmp_path)]) == 2
    log = tmp_path / "events.jsonl"
    said = f"fednano: {log}, line 1 does not have the fields of a RoundMerged; restore the file\n"
    assert capsys.readouterr().err.endswith(said)
    with pytest.raises(ValueError, match="line 1"):
        audit_log(tmp_path / "events.jsonl")


POSITIONS = st.tuples(st.integers(0, 12), st.integers(0, 2))
PIECES = st.tuples(POSITIONS, POSITIONS)


@given(st.lists(st.tuples(PIECES, st.sampled_from([0, 1, DONE, FREE])), max_size=8), PIECES, POSITIONS)
def test_a_lease_divided_at_once_is_as_one_taken_apart(
    taken: list[tuple[AuditedPiece, int]], piece: AuditedPiece, cursor: Position
) -> None:
    at_once, apart = _AuditedPool(), _AuditedPool()
    for pool in (at_once, apart):
        for held, owner in [*taken, (piece, 7)]:
            pool.take(held, owner)
    begun, until = piece
    divided = at_once.divide(piece, cursor, 7)
    assert divided == (begun < cursor < until)
    if divided:
        apart.take((begun, cursor), DONE)
        apart.take((cursor, until), FREE, only=7)
    assert vars(at_once) == vars(apart)
    assert at_once.free == at_once.owners.count(FREE)


def test_new_rows_are_nobodys_and_counted_where_they_are_free() -> None:
    pool = _AuditedPool()
    assert pool.take(((0, 0), (2, 0)), 3, only=5) == [NEW]
    assert pool.owners == [NEW]
    pool.take(((0, 0), (2, 0)), FREE)
    assert pool.free == 1


def test_nobody_divides_what_others_hold() -> None:
    pool = _AuditedPool()
    pool.take(((0, 0), (9, 0)), 1)
    assert not pool.divide(((0, 0), (9, 0)), (4, 0), 2)
    assert not pool.divide(((0, 0), (8, 0)), (4, 0), 1)
