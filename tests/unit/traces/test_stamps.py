"""Stamps as files of the wild write them: one reading, the right one, or a refusal."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.paths import FIXTURES

from fednano.traces.stamps import Stamps, read_stamps
from fednano.traces.table import Table, read_table

EXCEL = datetime(1899, 12, 30, tzinfo=UTC)
Render = Callable[[datetime], str]


def stamps(cells: list[str], name: str = "time") -> Stamps:
    return read_stamps(cells, range(2, len(cells) + 2), "x.csv", name)


def compact(form: str) -> Render:
    return lambda t: t.strftime(form)


FORMS: dict[str, Render] = {
    "ISO": lambda t: t.isoformat(),
    "ISO without a zone": compact("%Y-%m-%dT%H:%M:%S"),
    "Z": compact("%Y-%m-%d %H:%M:%SZ"),
    "UTC": compact("%Y-%m-%d %H:%M:%S UTC"),
    "an offset": lambda t: (t + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S+02:00"),
    "Excel's days": lambda t: f"{(t - EXCEL) / timedelta(days=1):.6f}",
    "Excel's days with a comma": lambda t: f"{(t - EXCEL) / timedelta(days=1):.8f}".replace(".", ","),
    "seconds": lambda t: str(int(t.timestamp())),
    "milliseconds": lambda t: str(int(t.timestamp()) * 10**3),
    "microseconds": lambda t: str(int(t.timestamp()) * 10**6),
    "nanoseconds": lambda t: str(int(t.timestamp()) * 10**9),
    "yyyymmddHHMM": compact("%Y%m%d%H%M"),
    "yyyymmddHHMMSS": compact("%Y%m%d%H%M%S"),
    "yyyymmddTHHMMSSZ": compact("%Y%m%dT%H%M%SZ"),
    "day first with points": compact("%d.%m.%Y %H:%M"),
    "an interval": lambda t: f"{t:%d.%m.%Y %H:%M} - {t:%d.%m.%Y} 24:00",
    "an ISO interval": lambda t: f"{t:%Y-%m-%dT%H:%MZ}/PT1H",
    "month first": compact("%m/%d/%Y %H:%M"),
    "twelve hours": compact("%m/%d/%Y %I:%M:%S %p"),
    "day first": compact("%d/%m/%Y %H:%M"),
    "day first with dashes": compact("%d-%m-%Y %H:%M"),
    "year first with slashes": compact("%Y/%m/%d %H:%M"),
    "month by name": compact("%d-%b-%Y %H:%M"),
    "of mail": compact("%a, %d %b %Y %H:%M:%S GMT"),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_48_hours_in_every_form(form: str) -> None:
    first = datetime(2024, 1, 1, tzinfo=UTC)
    read = stamps([FORMS[form](first + timedelta(hours=h)) for h in range(48)])
    assert read.times.tolist() == [3600.0 * h for h in range(48)]
    assert read.first == first.timestamp()


@given(
    first=st.datetimes(datetime(2015, 1, 1), datetime(2032, 1, 1)),
    step=st.sampled_from([300, 900, 1800, 3600]),
    rows=st.integers(60, 200),
    gaps=st.sets(st.integers(1, 59), max_size=3),
    form=st.sampled_from(sorted(FORMS)),
)
def test_a_series_in_any_form_is_read_back_or_refused(
    first: datetime, step: int, rows: int, gaps: set[int], form: str
) -> None:
    first = first.replace(minute=0, second=0, microsecond=0, tzinfo=UTC)
    moments = [first + timedelta(seconds=step * k) for k in range(rows) if k not in gaps]
    try:
        read = stamps([FORMS[form](t) for t in moments], "time (UTC)")
    except ValueError as error:
        assert "may be" in str(error) and "first" in form  # both orders may be meant
        return
    assert read.times.tolist() == [(t - moments[0]).total_seconds() for t in moments]


@pytest.mark.parametrize(
    ("name", "cells", "seconds"),
    [
        ("t", ["0", "10", "20.5"], [0, 10, 20.5]),
        ("hour", ["0", "1", "2"], [0, 3600, 7200]),
        ("t (h)", ["0", "0.5", "1"], [0, 1800, 3600]),
        ("time_ms", ["0", "300000"], [0, 300]),
        ("t [min]", ["5", "20"], [0, 900]),
        ("seconds of the day", ["0", "1"], [0, 1]),
        ("time", ["739252.0", "739252.25"], [0, 21600]),  # MATLAB's days
        ("day", ["20240228", "20240301"], [0, 172800]),
        ("period", ["2024-01", "2024-02"], [0, 31 * 86400]),
        ("period", ["2024-01-01T00", "2024-01-01T01"], [0, 3600]),
        ("t", ["2024-01-01 23:00", "2024-01-01 24:00", "2024-01-02 01:00"], [0, 3600, 7200]),
        ("Date (HE)", ["01/13/2024 23", "01/13/2024 24", "01/14/2024 01"], [0, 3600, 7200]),
        ("Date (HE)", ["11/03/2024 01", "11/03/2024 02", "11/03/2024 02*", "11/03/2024 03"], [0, 3600, 7200, 10800]),
        ("t", ["2024-10-27 01:00 CEST", "2024-10-27 02:00 CEST", "2024-10-27 02:00 CET"], [0, 3600, 7200]),
        ("t", ["2024-10-27 02:00 (CET)", "2024-10-27 03:00", "2024-10-27 04:00"], [0, 3600, 7200]),
        ("t", ["1/1/2024 11:00 AM", "1/1/2024 12:00 PM", "1/1/2024 1:00 PM"], [0, 3600, 7200]),
        ("t", ["1704067200.5", "1704067201"], [0, 0.5]),
        ("t", ["45352.00", "45352.04", "45352.08", "45352.13"], [0, 3600, 7200, 10800]),
    ],
)
def test_units_and_edges(name: str, cells: list[str], seconds: list[float]) -> None:
    assert stamps(cells, name).times.tolist() == seconds


def test_a_day_above_twelve_decides_the_order_for_the_whole_column() -> None:
    days = [datetime(2024, 1, d, tzinfo=UTC) for d in range(9, 16)]
    for form, read_as in (("%m/%d/%Y", "month first"), ("%d/%m/%Y", "day first")):
        read = stamps([f"{day:{form}}" for day in days])
        assert read.times.tolist() == [86400.0 * k for k in range(7)]
        assert read.read_as == read_as


def test_spacing_decides_the_order_where_no_day_does() -> None:
    hours = [datetime(2024, 3, 1, tzinfo=UTC) + timedelta(hours=h) for h in range(11 * 24) if h != 50]
    for form in ("%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M"):
        read = stamps([f"{hour:{form}}" for hour in hours])
        assert read.times.tolist() == [(t - hours[0]).total_seconds() for t in hours]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([f"{m}/1/2024 0:00" for m in range(1, 13)], r"row 3: '2/1/2024 0:00' may be 02 January 2024 or 01 February"),
        (["03/04/2024", "04/04/2024"], "may be"),
        (["01/02/24 00:00", "01/02/24 01:00"], "row 2: '01/02/24 00:00' has a year of two digits; use ISO 8601"),
        (["2024-01-01", "01/02/2024"], "row 3: '01/02/2024' is written in another way than the stamp in row 2"),
        (["2024-01-01T00:00Z", "2024-01-01T01:00"], "row 3: '2024-01-01T01:00' names no zone, but other stamps do"),
        (["2024-01-01 24:30", "2024-01-02 01:00"], "row 2: '2024-01-01 24:30' is not a time"),
        (["2024-01-01 13:00 PM", "2024-01-02 01:00"], "row 2: .* is not a time"),
        (["31/02/2024", "01/03/2024"], "row 2: '31/02/2024' is not a date"),
        (["1.70407E+12", "1.70408E+12"], "has lost its last digits"),
        (["133485408000000000", "133485444000000000"], "no unit since 1970 puts it between 2000 and 2100"),
        (["45352", "45353"], "row 2: '45352' may be a day of Excel's or a second; use ISO 8601"),
        (["2019", "2020", "2021"], "row 2: '2019' may be a year or a second"),
        (["45352.0", "45352.1", "45352.2"], "seems to count days with too few decimals"),
        (["2024-01-01T00:00", ""], "row 3: '' is not a time"),
    ],
)
def test_two_plausible_readings_or_none_are_refused(cells: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^x\.csv, .*{message}"):
        stamps(cells)


def local(first: datetime, zone: str, hours: int, step: int) -> list[str]:
    from zoneinfo import ZoneInfo

    moments = [first.replace(tzinfo=UTC) + timedelta(seconds=k * step) for k in range(hours * 3600 // step)]
    return [f"{moment.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}" for moment in moments]


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "Europe/Lisbon", "Europe/Athens", "America/New_York", "Australia/Sydney"]
)
@pytest.mark.parametrize("step", [300, 900, 3600])
@pytest.mark.parametrize("first", [datetime(2024, 3, 1), datetime(2024, 10, 1), datetime(2024, 10, 20)])
def test_local_time_through_changes_of_the_clocks(zone: str, step: int, first: datetime) -> None:
    cells = local(first, zone, 24 * 45, step)
    read = stamps(cells)
    assert read.times.tolist() == [float(k * step) for k in range(len(cells))]
    if zone != "Australia/Sydney" or first != datetime(2024, 10, 20):
        assert "local time, whose clocks change on 2024-" in read.read_as


def test_a_repeated_hour_that_nothing_tells_apart_is_refused() -> None:
    night = ["2024-10-27 00:00", "2024-10-27 01:00", "2024-10-27 02:00", "2024-10-27 02:00", "2024-10-27 03:00"]
    with pytest.raises(ValueError, match=r"row 6: '2024-10-27 02:00' repeats .*change of the clocks; export in UTC"):
        stamps([*night[:4], *night[3:]])
    with pytest.raises(ValueError, match=r"row 5: 2024-10-27 02:00 repeats the stamp before it; sort"):
        stamps(night, "time (UTC)")
    with pytest.raises(ValueError, match=r"row 4: 2024-10-26 02:00 repeats the stamp before it; sort"):
        stamps(["2024-10-26 01:00", "2024-10-26 02:00", "2024-10-26 02:00", "2024-10-26 03:00"])


def test_a_gap_on_another_day_is_no_change_of_the_clocks() -> None:
    cells = ["2024-03-30 00:00", "2024-03-30 01:00", "2024-03-30 03:00", "2024-03-30 04:00"]
    assert stamps(cells).times.tolist() == [0, 3600, 10800, 14400]


def test_both_platforms_of_entsoe_through_the_autumn_night() -> None:
    new = read_table(str(FIXTURES / "entsoe_autumn_new.csv"), None, ["Day-ahead Price (EUR/MWh)"])
    assert new.times.tolist() == [900.0 * k for k in range(32)]
    old = read_table(str(FIXTURES / "entsoe_autumn_old.csv"), None, None)
    assert old.times.tolist() == [3600.0 * k for k in range(8)]
    assert old.described().endswith(
        "entsoe_autumn_old.csv: 8 rows, 2024-10-27 00:00 to 2024-10-27 06:00, usual step 3,600 s, read as day first, "
        "local time, whose clocks change on 2024-10-27; ENTSO-E"
    )


def test_a_file_is_described_by_its_own_first_and_last_stamp(tmp_path: Path) -> None:
    """Whatever the clocks did in between."""
    for days, hours in (("2024-03-31", (0, 1, 3, 4, 5)), ("2024-10-27", (0, 1, 2, 2, 3, 4))):
        rows = [f"{days} {hour:02}:00,{k}" for k, hour in enumerate(hours)]
        (tmp_path / "local.csv").write_text("\n".join(("time,value", *rows)))
        described = read_table(str(tmp_path / "local.csv"), None, None).described()
        assert f"{days} 00:00 to {days} {hours[-1]:02}:00, usual step 3,600 s" in described
        assert described.endswith(f"whose clocks change on {days}")


def test_excel_and_iso_files_are_the_same_hours() -> None:
    excel, iso = (read_table(str(FIXTURES / f"hourly_{name}.csv"), None, None) for name in ("excel", "iso"))
    assert excel.times.tolist() == iso.times.tolist() == [3600.0 * h for h in range(48)]
    with pytest.raises(ValueError, match=r"may be 01 February 2024 or 02 January 2024; use ISO 8601"):
        read_table(str(FIXTURES / "daily_us.csv"), None, None)


def table(tmp_path: Path, text: str, encoding: str = "utf-8", **settings: object) -> Table:
    (tmp_path / "x.csv").write_text(text, encoding=encoding, newline="")
    return read_table(str(tmp_path / "x.csv"), **{"time_column": None, "columns": None, **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "time;a\n2024-01-01T00:00Z;1,5\n2024-01-01T01:00Z;n/e\n2024-01-01T02:00Z;1.234,5\n",
        "time\ta\n2024-01-01T00:00Z\t1,5\n2024-01-01T01:00Z\t--\n2024-01-01T02:00Z\t1234,5\n",
        'sep=;\ntime;a\n2024-01-01T00:00Z;1.5\n2024-01-01T01:00Z;\n2024-01-01T02:00Z;"1 234.5"\n',
        'time,a\n2024-01-01T00:00Z,1.5\n2024-01-01T01:00Z,N/A\n2024-01-01T02:00Z,"1,234.5"\n',
        "time,a,\r\nUTC,g/kWh,\r\n2024-01-01T00:00Z,1.5,\r\n2024-01-01T01:00Z,-,\r\n\r\n"
        "time,a,\r\n2024-01-01T02:00Z,1234.5,\r\n,,\r\n\r\n",
        "lat,lon,zone\n52.5,13.4,GMT\n\ntime,a\n2024-01-01T00:00,1.5\n2024-01-01T01:00,\n2024-01-01T02:00,1234.5\n",
        'A title\n\n"time","a"\n"2024-01-01T00:00","1.5"\n"2024-01-01T01:00",""\n"2024-01-01T02:00","1234.5"\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_of_many_shapes(tmp_path: Path, text: str, encoding: str) -> None:
    read = table(tmp_path, text, encoding)
    assert read.times.tolist() == [0, 3600, 7200]
    assert list(read.columns) == ["a"]
    values = read.columns["a"].tolist()
    assert values[0] == 1.5 and values[1] != values[1] and values[2] == 1234.5


def test_a_comma_that_may_be_two_things_is_refused(tmp_path: Path) -> None:
    text = 'time,a\n0,"1,234"\n10,"2,345"\n'
    with pytest.raises(ValueError, match=r"x.csv, row 2: the comma in '1,234' under a may mark decimals or thousands"):
        table(tmp_path, text)
    assert table(tmp_path, text.replace("2,345", "0,345")).columns["a"].tolist() == [1.234, 0.345]


def test_a_file_without_a_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x.csv has no header; name its columns in the first row"):
        table(tmp_path, "2024-01-01T00:00Z,5\n2024-01-01T01:00Z,6\n2024-01-01T02:00Z,7\n")
