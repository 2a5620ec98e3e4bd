"""Traces from files: what is read, what is refused, and the windows that follow."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fednano.traces.table import fill, read_table
from fednano.traces.trace import Trace
from fednano.volatility.availability import Availability
from fednano.volatility.recorded import Intervals
from fednano.volatility.traced import Traced, condition, delayed, without

HOURLY = "time,DE,FR\n" + "".join(
    f"2026-03-01T{h:02d}:00Z,{de},{fr}\n" for h, (de, fr) in enumerate([(5, 9), (1, 9), (1, 2), (5, 2), (1, 9), (5, 9)])
)
HOUR = 3600.0


@pytest.fixture
def write(tmp_path: Path):
    def go(text: str, encoding: str = "utf-8") -> str:
        path = tmp_path / "x.csv"
        path.write_text(text, encoding=encoding)
        return str(path)

    return go


def spans(availability: Availability, until: float = 1e6) -> list[tuple[float, float]]:
    return [(w.start, w.stop) for w in availability.until(until)]


def hours(profile: Traced, index: int = 0, until: float = 1e6) -> list[tuple[float, float]]:
    return [(a / HOUR, b / HOUR) for a, b in spans(profile.availability("c", index, 0), until * HOUR)]


def test_windows_below_and_above_a_value(write) -> None:
    file = write(HOURLY)
    below = Traced(file=file, threshold=3, on_end="down")
    assert hours(below) == [(1, 3), (4, 5)]
    assert hours(below, index=1) == [(2, 4)]
    assert hours(below, index=2) == hours(below, index=0)
    above = Traced(file=file, threshold=3, on_end="down", open_when="above")
    assert hours(above) == [(0, 1), (3, 4), (5, 6)]
    assert hours(Traced(file=file, threshold=5, on_end="down", columns=["DE"])) == [(1, 3), (4, 5)]  # strictly below


def test_lines_open_between_the_stamps(write) -> None:
    assert hours(Traced(file=write(HOURLY), threshold=3, on_end="down", interpolation="linear")) == [
        (0.5, 2.5), (3.5, 4.5),
    ]  # fmt: skip


def test_percentiles_are_of_each_column(write) -> None:
    rows = "".join(f"{t},{t},{100 * t}\n" for t in range(10))
    profile = Traced(file=write("t,a,b\n" + rows), threshold="p50", on_end="down")
    assert spans(profile.availability("c", 0, 0)) == spans(profile.availability("c", 1, 0)) == [(0, 5)]


def test_hysteresis_and_provisioning_by_hand() -> None:
    met = [(0, 10), (13, 20), (30, 32), (40, 60)]
    assert list(delayed(iter(met), 0, 0)) == met
    assert list(delayed(iter(met), 3, 0)) == [(0, 23), (30, 35), (40, 63)]
    assert list(delayed(iter(met), 2, 0)) == [(0, 12), (13, 22), (30, 34), (40, 62)]
    assert list(delayed(iter(met), 0, 4)) == [(4, 10), (17, 20), (44, 60)]
    assert list(delayed(iter(met), 3, 5)) == [(5, 23), (45, 63)]
    assert list(delayed(iter([]), 1, 1)) == []
    assert list(delayed(iter([(0, 5), (5, 9)]), 0, 0)) == [(0, 9)]


def test_foreseen_windows_close_with_the_condition_but_for_short_gaps(write) -> None:
    # Below 3 in the hours 1, 2, 4 and 7: a gap of one hour, and one of two.
    file = write("time,DE\n" + "\n".join(f"{3600 * k},{v}" for k, v in enumerate([5, 1, 1, 5, 1, 5, 5, 1, 5])) + "\n")
    late = Traced(file=file, threshold=3, on_end="down", exit="drain", hysteresis_s=1.5 * HOUR, provisioning_s=HOUR / 2)
    assert hours(late) == [(1.5, 6.5), (7.5, 9.5)]
    assert hours(late.foreseen(crashes=False)) == [(1.5, 3), (4.5, 5), (7.5, 8)]
    # It would be away for no longer than provisioning takes: an hour.
    slow = replace(late, provisioning_s=HOUR)
    assert hours(slow.foreseen(crashes=False)) == [(2, 5)]
    assert hours(slow) == [(2, 6.5), (8, 9.5)]
    assert late.foreseen(crashes=False).open_spans("c", 0, 1e6) == late.open_spans("c", 0, 1e6)


def test_crashes_are_foreseen_by_who_knows_of_them(write) -> None:
    late = Traced(file=write(HOURLY), threshold=3, on_end="down", exit="mixed", hysteresis_s=HOUR / 2)
    assert hours(late) == [(1, 3.5), (4, 5.5)]
    assert hours(late.foreseen(crashes=False)) == hours(late)
    assert hours(late.foreseen(crashes=True)) == [(1, 3), (4, 5)]


def test_a_column_that_never_opens_long_enough_is_refused_when_it_is_foreseen(write) -> None:
    # An hour in five; the client comes after an hour and a half, and stays for as long after it failed.
    file = write("time,DE\n0,5\n3600,1\n7200,5\n10800,5\n14400,5\n")
    delays = {"hysteresis_s": 1.5 * HOUR, "provisioning_s": 1.5 * HOUR}
    late = Traced(file=file, threshold=3, on_end="repeat", exit="drain", **delays)
    assert hours(late, until=7) == [(2.5, 3.5)]
    with pytest.raises(ValueError, match=r"planner\.deprovision=foreseen never opens column DE .* use .*=delayed"):
        late.foreseen(crashes=True)


def test_a_column_that_fails_for_moments_alone_is_never_left_when_it_is_foreseen(write) -> None:
    file = write("time,DE\n0,1\n3600,5\n7200,1\n")
    late = Traced(file=file, threshold=3, on_end="repeat", exit="drain", provisioning_s=HOUR)
    assert hours(late.foreseen(crashes=False), until=100) == [(0, 100)]


def test_holes_are_cut_out() -> None:
    assert without([(0, 10), (20, 30)], [(2, 4), (8, 22), (40, 50)]) == [(0, 2), (4, 8), (22, 30)]


def test_offset_and_speedup(write) -> None:
    profile = Traced(file=write(HOURLY), threshold=3, on_end="down", offset_s=2 * HOUR, speedup=60)
    assert spans(profile.availability("c", 0, 0)) == [(0, 60), (120, 180)]
    assert profile.trace("c", 0).value([0, 61, 121]).tolist() == [1, 5, 1]


@pytest.mark.parametrize("offset", [0, 1.5, 5, 5.5])
def test_a_repeating_trace_wraps_around(write, offset: float) -> None:
    """Ends open and begins open: the window goes through, without a change at the seam."""
    text = "t,a\n" + "".join(f"{h * 3600},{v}\n" for h, v in enumerate([1, 5, 5, 1]))
    profile = Traced(file=write(text), threshold=3, on_end="repeat", offset_s=offset * HOUR % (4 * HOUR))
    got = hours(profile, until=20)
    always = [(max(0.0, k - offset % 4), k + 2 - offset % 4) for k in range(-1, 30, 4) if k + 2 > offset % 4]
    assert got == [(a, min(b, 20)) for a, b in always if a < 20]


def test_a_repeating_trace_that_never_closes(write) -> None:
    profile = Traced(file=write("t,a\n0,1\n10,9\n20,1\n"), threshold=3, on_end="repeat", hysteresis_s=10)
    assert spans(profile.availability("c", 0, 0), 1e9) == [(0, 1e9)]


def test_the_end_of_a_trace(write) -> None:
    file = write("t,a\n0,9\n10,1\n")
    at = lambda **settings: Traced(file=file, threshold=3, **settings).availability("c", 0, 0)  # noqa: E731
    assert spans(at(on_end="hold"), 1000) == [(10, 1000)]
    assert spans(at(on_end="down"), 1000) == [(10, 20)]
    assert spans(at(on_end="repeat"), 60) == [(10, 20), (30, 40), (50, 60)]
    refused = at()
    assert refused.window(15) is not None
    assert refused.next_change(15) == 20
    with pytest.raises(ValueError, match=r"x.csv ends 20 s after .*on_end=repeat"):
        refused.window(20)


def test_gaps(write) -> None:
    text = "t,a\n0,1\n10,1\n20,\n30,nan\n40,9\n50,1\n80,1\n90,9\n"
    file = write(text)
    held = Traced(file=file, threshold=3, on_gap="hold", on_end="down").availability("c", 0, 0)
    assert spans(held) == [(0, 40), (50, 90)]
    down = Traced(file=file, threshold=3, on_gap="down", on_end="down").availability("c", 0, 0)
    assert spans(down) == [(0, 20), (50, 60), (80, 90)]
    with pytest.raises(ValueError, match=r"x.csv, row 3: column a has no value for the 30 s that follow.*on_gap"):
        Traced(file=file, threshold=3, on_gap="error")
    times, values, gaps = fill(read_table(file, None, None), "a", "hold")
    assert gaps == [(20, 40), (60, 80)]
    line = Trace(times, values, "linear")
    assert line.value([20, 30, 35]).tolist() == [1, 1, 5]  # held up to one step before the next value


def test_exports_of_several_kinds(write) -> None:
    watttime = read_table(
        write("point_time,value\n2026-03-01T00:00:00+00:00,5\n2026-03-01T00:05:00+00:00,6\n"), None, None
    )
    assert watttime.times.tolist() == [0, 300]
    maps = read_table(
        write("Datetime (UTC),Country,gCO₂eq/kWh\n2026-03-01 00:00:00,DE,5\n2026-03-01 01:00:00,DE,6\n"),
        "Datetime (UTC)",
        ["gCO₂eq/kWh"],
    )
    assert (maps.times.tolist(), maps.columns["gCO₂eq/kWh"].tolist()) == ([0, 3600], [5, 6])
    entsoe = read_table(
        write('"MTU (UTC)","Price"\n"01.03.2026 00:00 - 01.03.2026 01:00","5.5"\n"01.03.2026 01:00 - 02:00","n/e"\n'),
        None,
        None,
    )
    assert entsoe.times.tolist() == [0, 3600]
    assert np.isnan(entsoe.columns["Price"][1])
    # Zones count: the second stamp is an hour after the first, not two. Comments and a byte order mark are passed over.
    zones = read_table(write("\ufeff# made up\nt,a\n2026-03-29T01:00+01:00,1\n2026-03-29T03:00+02:00,1\n"), "t", ["a"])
    assert zones.times.tolist() == [0, 3600]
    assert list(zones.rows) == [3, 4]


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("t,a\n0,1\n20,1\n10,1\n", {}, r"x.csv, row 4: 10 is earlier than the row before it; sort"),
        ("t,a\n0,1\n10,1\n10,2\n", {}, r"x.csv, row 4: 10 repeats the stamp"),
        ("t,a\n0,1\nsoon,1\n", {}, r"x.csv, row 3: 'soon' is not a time; use ISO 8601"),
        ("t,a\n0,1\ninf,1\n", {}, r"row 3: 'inf' is not a time"),
        ("t,a\n0,1\n10,much\n", {}, r"x.csv, row 3: 'much' under a is not a number"),
        ("t,a\n0,1\n10,inf\n", {}, r"row 3: 'inf' under a is not a number"),
        ("t,a\n0,\n10,1\n", {}, r"x.csv, row 2: column a begins without a value"),
        ("t,a\n0,1\n10,1,7\n", {}, r"x.csv, row 3: 3 cells under 2 columns"),
        ("t,a,a\n0,1,1\n", {}, "two columns share a name"),
        ("t,a\n0,1\n", {}, "has 1 rows; a trace needs 2"),
        ("t,a\n", {}, "has 0 rows; a trace needs 2"),
        ("", {}, "is empty; give a CSV file with a header"),
        ("t\n0\n1\n", {}, "no column besides t"),
        ("t,a\n0,1\n10,1\n", {"columns": ["b"]}, "has no column b; it has t, a"),
        ("t,a\n0,1\n10,1\n", {"time_column": "when"}, "has no column when; it has t, a"),
        ("t,a\n0,1\n10,2\n", {"threshold": 0}, r"threshold=0 never opens column a of .* between 1 and 2; u"),
        ("t,a\n0,1\n10,2\n", {"threshold": 2, "provisioning_s": 10}, "provisioning_s"),
        ("t,a\n0,1\n10,9\n", {"threshold": 2, "provisioning_s": 10, "on_end": "repeat"}, "never opens column a"),
        ("t,a\n0,1\n10,1\n", {"offset_s": 20}, "offset_s must be < 20, the end of .*, got 20"),
        ("t,a\n0,1\n10,1\n", {"threshold": "40"}, "threshold must be from p0 to p100, got 40"),
        ("t,a\n0,1\n10,1\n", {"threshold": "p101"}, "threshold must be from p0 to p100, got p101"),
        ("t,a\n0,1\n10,1\n", {"threshold": math.nan}, "threshold must be finite, got nan"),
        ("t,a\n0,1\n10,1\n", {"columns": 5}, "columns must name at least one column, got 5"),
        (
            "t,a\n0,1\n10,1\n",
            {"on_gap": "skip"},
            "on_gap must be one of hold, down, error, got skip; choose one of them",
        ),
        ("t,a\n0,1\n10,1\n", {"open_when": "near"}, "open_when must be one of below, above, got near"),
        ("t,a\n0,1\n10,1\n", {"hysteresis_s": -1}, "hysteresis_s must be >= 0 seconds, got -1"),
        ("t,a\n0,1\n10,1\n", {"speedup": 0}, "speedup must be > 0, got 0"),
        ("t,a\n0,1\n10,1\n", {"exit": "jump"}, "exit must be drain, crash or mixed, got jump; choose one of them"),
    ],
)
def test_bad_traces_name_file_row_and_remedy(write, text: str, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Traced(**{"file": write(text), "threshold": 5, **settings})


def test_files_that_cannot_be_read(write, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"file=nowhere.csv does not exist; .*package:synthetic_solar.csv"):
        Traced(file="nowhere.csv")
    with pytest.raises(ValueError, match="cannot be read as CSV or JSON in UTF-8"):
        Traced(file=write("t,ä\n0,1\n", "latin-1"))
    with pytest.raises(ValueError, match="does not exist"):
        Traced(file=str(tmp_path))


def test_clients_are_given_columns_by_name(write) -> None:
    profile = Traced(file=write(HOURLY), threshold=3, on_end="down", columns={"a": "FR", "b": "DE"})
    assert spans(profile.availability("a", 7, 0)) == [(2 * HOUR, 4 * HOUR)]
    with pytest.raises(ValueError, match=r"names no column for c; add volatility.columns.c=COLUMN"):
        profile.availability("c", 0, 0)


@pytest.mark.parametrize(("name", "unit"), [("solar", "W/m²"), ("carbon", "g/kWh"), ("price", "€/MWh")])
def test_the_shipped_traces_are_whole_and_labelled(name: str, unit: str) -> None:
    import fednano.traces.rows as module

    file = f"package:synthetic_{name}.csv"
    with module.resolve(file).open(encoding="utf-8") as stream:
        assert stream.readline().startswith(f"# Synthetic {name} in {unit}, not measured")
    table = read_table(file, None, None)
    assert list(table.columns) == ["almeria", "tonopah", "alice_springs"]
    assert table.times[-1] + 300 == 14 * 86400
    assert (np.diff(table.times) == 300).all()
    assert all(np.isfinite(column).all() for column in table.columns.values())
    if name == "solar":  # dark at midnight UTC in Almería, bright in the Australian morning
        assert table.columns["almeria"][0] == 0 < table.columns["alice_springs"][0]


def test_recorded_windows(write) -> None:
    file = write("client,start,stop,exit\na,0,5,crash\nb,2,4,\na,7,9,drain\nb,6,,drain\n")
    profile = Intervals(file=file, exit="crash", speedup=2)
    windows = list(profile.availability("x", 0, 0).until(100))
    assert [(w.start, w.stop, w.exit) for w in windows] == [(0, 2.5, "crash"), (3.5, 4.5, "drain")]
    windows = list(profile.availability("y", 1, 0).until(100))
    assert [(w.start, w.stop, w.exit) for w in windows] == [(1, 2, "crash"), (3, 100, "drain")]
    named = Intervals(file=file, match="name")
    assert spans(named.availability("b", 0, 0), 100) == [(2, 4), (6, 100)]
    with pytest.raises(ValueError, match="no windows for x, only for a, b"):
        named.availability("x", 0, 0)


def test_recorded_windows_repeat(write) -> None:
    profile = Intervals(file=write("client,start,stop\na,1,5\nb,2,8\n"), on_end="repeat")
    assert spans(profile.availability("x", 0, 0), 20) == [(1, 5), (9, 13), (17, 20)]
    assert spans(profile.availability("x", 1, 0), 20) == [(2, 8), (10, 16), (18, 20)]


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ("a,0,5\na,5,6\n", {}, r"x.csv, row 3: starts at 5 s, but row 2 stops at 5 s; sort"),
        ("a,0,\na,5,6\n", {}, "row 3: starts at 5 s, but row 2 stops at inf s"),
        ("a,5,5\n", {}, "row 2: a window must start at 0 s or later .*, got 5 to 5 s"),
        ("a,-1,5\n", {}, "row 2: a window must start at 0 s or later .*, got -1 to 5 s"),
        ("a,,5\n", {}, "row 2: a window must start at 0 s or later .*, got nan to 5 s"),
        ("", {}, "has no windows"),
        ("a,0,5\na,7,\n", {"on_end": "repeat"}, "row 3 stops at inf s"),
        ("a,0,5\n", {"on_end": "repeat", "period_s": 4}, "begins again at 4 s, but .*row 2 stops at 5 s"),
        ("a,0,5\n", {"on_end": "repeat"}, "begins again at 5 s"),
        ("a,2024-01-01,2024-01-02\n", {}, "row 2: start must be seconds since the record began, got 2024-01-01; sub"),
        ("a,0,2024-01-02\n", {}, "row 2: stop must be seconds since the record began, got 2024-01-02"),
        ("a,1704067200,1704070800\n", {}, "row 2: start must be seconds since the record began, got 1704067200"),
        ("a,45352.1,45352.2\n", {}, "row 2: start must be seconds .*, got 45352.1, which seems to count days"),
        ("a,0,5\n", {"match": "luck"}, "match must be name or turn, got luck"),
    ],
)
def test_bad_records_name_file_row_and_remedy(write, rows: str, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Intervals(file=write("client,start,stop\n" + rows), **settings)


def test_an_exit_that_is_none(write) -> None:
    with pytest.raises(ValueError, match="row 2: exit must be drain, crash or empty, got fades"):
        Intervals(file=write("client,start,stop,exit\na,0,1,fades\n"))


def test_conditions_of_both_sides_cover_the_trace() -> None:
    draw = np.random.default_rng(0)
    trace = Trace(np.arange(50.0), draw.integers(0, 9, 50), "linear")
    both = sorted([*condition(trace, 4.5, "below"), *condition(trace, 4.5, "above")])
    assert both[0][0] == 0
    assert both[-1][1] == trace.end
    assert all(a[1] == b[0] for a, b in itertools.pairwise(both))
