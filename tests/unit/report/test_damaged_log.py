"""Damaged event logs: what reads one names the line in one sentence, or finds nothing to say."""

import re
from itertools import islice
from pathlib import Path

import pytest
from support.damage import flip
from support.event_logs import volatile_run

from fednano.core.event_log import DamagedLogError, EventLog, read_log
from fednano.report.__main__ import main

FIRST = 60  # events: each kind is among them
SAMPLE = 200  # of all bits


@pytest.fixture
def events(tmp_path: Path) -> Path:
    event_log = EventLog(tmp_path / "events.jsonl")
    for event in islice(volatile_run(20), FIRST):
        event_log.append(event)
    event_log.close()
    return tmp_path / "events.jsonl"


def fault(events: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What is wrong with what the command says of a log; empty if nothing is."""
    code, said = main([*options, str(events.parent)]), capsys.readouterr()
    if code != 2:
        return said.err
    line = rf"fednano: {re.escape(str(events))}, line \d+ (is|names|does) [^();]+; restore the file\n"
    rest = rf"fednano: {re.escape(str(events.parent))} must hold the figures of a run, got others; restore its [^;]+\n"
    return "" if re.fullmatch(line, said.err) or re.fullmatch(rest, said.err) else said.err


def faults(events: Path, capsys: pytest.CaptureFixture[str], every: int) -> list[str]:
    found = []
    for place in range(0, 8 * events.stat().st_size, every):
        flip(events, place // 8, place % 8)
        found += [f"{place}: {line}" for options in ([], ["--audit"]) if (line := fault(events, capsys, *options))]
        flip(events, place // 8, place % 8)
    return found


def test_a_bit_that_flips_is_told_in_one_line(events: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not faults(events, capsys, 8 * events.stat().st_size // SAMPLE | 1)


@pytest.mark.slow
def test_any_bit_that_flips_is_told_in_one_line(events: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not faults(events, capsys, 7)


def test_a_log_of_a_newer_form_is_not_read(events: Path) -> None:
    first, *rest = events.read_text().splitlines()
    events.write_text("\n".join((first[:-1] + ',"format":3,"shape":"new"}', *rest, "")))
    with pytest.raises(DamagedLogError) as caught:
        list(read_log(events))
    assert str(caught.value) == (
        f"{events}, line 1 says that the log has format 3, and this version of fednano reads 2 at most; use a newer one"
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "is not JSON"),
        ("[1]", "names no event"),
        ('{"event": 3}', "names no event"),
        ('{"event": "RunEnder", "t": 0.0}', "names an event that this version does not know, 'RunEnder'"),
        ('{"event": "ClientUp", "t": 0.0}', "does not have the fields of a ClientUp"),
    ],
)
def test_the_line_says_what_is_wrong(events: Path, capsys: pytest.CaptureFixture[str], line: str, says: str) -> None:
    lines = events.read_text().splitlines()
    lines[4] = line
    events.write_text("\n".join((*lines, "")))
    expected = f"{events}, line 5 {says}; restore the file"
    with pytest.raises(DamagedLogError) as caught:
        list(read_log(events))
    assert str(caught.value) == expected
    for options in ([], ["--audit"]):
        if options and "fields" in says:
            continue  # the audit reads no fields of an event that has nothing to do with rows
        assert main([*options, str(events.parent)]) == 2
        assert capsys.readouterr().err == f"fednano: {expected}\n"


def test_a_line_that_does_not_follow_is_named(events: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = events.read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if "LeaseGranted" in line)
    lines[at] = re.sub(r'"spans":\[\[\d+,', '"spans":[[', lines[at])
    events.write_text("\n".join((*lines, "")))
    assert main(["--audit", str(events.parent)]) == 2
    said = f"line {at + 1} is a LeaseGranted that does not follow from the lines before it; restore the file\n"
    assert capsys.readouterr().err == f"fednano: {events}, {said}"
