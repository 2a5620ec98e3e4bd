"""Files of publishers, as downloaded: values, units and times by hand, and one line about those that are damaged."""

import gzip
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from support import public_traces as samples

from fednano.energy.supply import Column
from fednano.traces.table import fill, read_table
from fednano.volatility.recorded import Intervals
from fednano.volatility.traced import Traced

Write = Callable[..., str]
LIFE_CYCLE_NEW = "Carbon intensity gCO₂eq/kWh (Life cycle)"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def go(text: str, name: str = "x.csv") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return go


def read(file: str, *columns: str, form: str | None = None) -> tuple[list[float], list[list[float | None]], str]:
    """(times, values of the columns with None for missing ones, what is said about the file)"""
    table = read_table(file, None, list(columns) or None, form=form)
    values = [[None if math.isnan(v) else round(v, 6) for v in column.tolist()] for column in table.columns.values()]
    return table.times.tolist(), values, table.described()


@pytest.mark.parametrize("text", [samples.ELECTRICITY_MAPS_OLD, samples.ELECTRICITY_MAPS_NEW], ids=["2023", "2024"])
def test_electricity_maps(write: Write, text: str) -> None:
    file = write(text)
    times, values, described = read(file)
    assert times == [0, 3600, 7200]
    assert values == [[150.25, 140.75, 260]]  # of life cycles
    assert "-01-01 00:00 to 202" in described
    assert described.endswith("-01-01 02:00, usual step 3,600 s; Electricity Maps")
    assert read(file, "direct", "carbon_free", "renewable")[1] == [[100.5, 90.5, 210], [70.1, 72, 40], [55.2, 57, 31]]


def test_electricity_maps_by_the_names_in_the_file(write: Write) -> None:
    file = write(samples.ELECTRICITY_MAPS_NEW)
    assert read(file, LIFE_CYCLE_NEW)[1] == [[150.25, 140.75, 260]]
    table = read_table(file, "Datetime (UTC)", ["life_cycle"])
    assert table.units == {"life_cycle": "g/kWh"}
    with pytest.raises(ValueError, match=r"x.csv has no column LCA; it has Datetime .*, life_cycle, direct"):
        read(file, "LCA")


def test_answers_of_electricity_maps(write: Write) -> None:
    times, values, described = read(write(samples.ELECTRICITY_MAPS_JSON, "history.json"))
    assert (times, values) == ([0, 3600, 7200], [[150, None, 260]])
    assert "3 entries, 2024-01-01 00:00 to 2024-01-01 02:00" in described


@pytest.mark.parametrize(
    "text",
    [samples.WATTTIME_JSON, samples.WATTTIME_V2_JSON, samples.WATTTIME_CSV, samples.WATTTIME_MOER_CSV],
    ids=["v3", "v2, latest first", "CSV", "CSV of MOER"],
)
def test_watttime_in_grams(write: Write, text: str) -> None:
    times, values, described = read(write(text, "x.any"))
    assert times == [0, 300, 600]
    # A pound is 453.59237 g, and a megawatt-hour 1000 kWh.
    assert values == [[453.59237, 226.796185, 0]]
    assert "2024-03-01 00:00 to 2024-03-01 00:10, usual step 300 s" in described
    assert described.endswith("; WattTime, pounds per MWh turned into g/kWh")


def test_signals_of_watttime_in_other_units_stay_as_they_are(write: Write) -> None:
    file = write(samples.WATTTIME_JSON.replace("lbs_co2_per_mwh", "percentile"), "index.json")
    _, values, described = read(file)
    assert values == [[1000, 500, 0]]
    assert described.endswith("; WattTime, in percentile")
    with pytest.raises(ValueError, match=r"energy\.carbon\.columns must be in g/kWh, got value of .* in percentile"):
        Column(file=file).read("energy.carbon")
    damage = write(samples.WATTTIME_CSV, "XX_health_damage_2024-03-01_2024-03-02.csv")
    assert read(damage)[1] == [[1000, 500, 0]]


def test_a_plain_table_is_read_as_one_on_request(write: Write) -> None:
    _, values, described = read(write(samples.WATTTIME_CSV), form="table")
    assert values == [[1000, 500, 0]]
    assert "WattTime" not in described
    renamed = write(samples.WATTTIME_CSV.replace("value", "rate"), "y.csv")
    assert read(renamed)[1] == [[1000, 500, 0]]
    with pytest.raises(ValueError, match=r"volatility\.format=watttime does not fit .*y\.csv; set it to null"):
        read(renamed, form="watttime")
    with pytest.raises(ValueError, match=r"volatility\.format must be null, table, .* or skypilot, got wattime; null"):
        read(renamed, form="wattime")


def test_pounds_are_not_converted_twice(write: Write) -> None:
    file = write(samples.WATTTIME_CSV)
    with pytest.raises(
        ValueError, match=r"energy\.carbon\.scale must be 1 with .*x\.csv, .* got 0\.4536; leave it out"
    ):
        Column(file=file, scale=0.4536).read("energy.carbon")
    traces, _ = Column(file=file, scale=0.4536, format="table").read("energy.carbon")
    assert traces["value"].value(0.0) == pytest.approx(453.6)
    traces, _ = Column(file=file).read("energy.carbon")
    assert traces["value"].integral(0, 600) == pytest.approx(300 * (453.59237 + 226.796185))


def test_prices_of_both_platforms_of_entsoe(write: Write) -> None:
    times, values, described = read(write(samples.ENTSOE_PRICE_OLD))
    assert times == [0, 3600, 7200, 10800]  # two hours lie between 01:00 and 03:00, and blank rows end the file
    assert values == [[50.1, -5, 0, 20.5]]
    assert described.endswith("whose clocks change on 2024-10-27; ENTSO-E")
    file = write(samples.ENTSOE_PRICE_NEW)
    times, values, described = read(file)
    assert (times, values) == ([0, 3600, 7200], [[50.1, -5, 20.5]])
    assert "2025-03-01 00:00 to 2025-03-01 02:00" in described
    assert described.endswith("ENTSO-E, Sequence Sequence 1")
    assert read(file, "Sequence Sequence 2")[:2] == ([0, 900, 1800], [[48, 52, 54]])
    assert read_table(file, None, None).units == {"Day-ahead Price (EUR/MWh)": "EUR/MWh"}


def test_areas_of_entsoe_become_columns(write: Write) -> None:
    file = write(samples.ENTSOE_TWO_AREAS)
    assert read(file)[:2] == ([0, 3600], [[50, 60], [5, 6]])
    assert read(file, "BZN|YY")[1] == [[5, 6]]


def test_carbon_intensity_of_generation_on_the_old_platform(write: Write) -> None:
    file = write(samples.ENTSOE_GENERATION_OLD)
    times, values, described = read(file)
    assert times == [0, 3600, 7200, 10800]
    assert values == [[131, 370.5, None, 131]]  # nuclear power is missing in the third hour
    # 100 of 500 MW in each of the three other hours have no median.
    assert described.endswith("by the medians of IPCC 2014 without 20.0% of it, whose types have none")
    assert read(file, "Waste", "carbon_intensity")[1][0] == [100, 100, 100, 100]
    with pytest.raises(ValueError, match=r"row 3: column carbon_intensity has no value for the 7200 s that"):
        fill(read_table(file, None, None), "carbon_intensity", "error")


def test_carbon_intensity_of_generation_on_the_new_platform(write: Write) -> None:
    file = write(samples.ENTSOE_GENERATION_NEW)
    times, values, described = read(file)
    assert (times, values) == ([0, 3600], [[131, 370.5]])
    assert described.endswith("; ENTSO-E, intensity of generation by the medians of IPCC 2014")
    assert read(file, "Wind Onshore")[1] == [[200, 0]]
    two = samples.ENTSOE_GENERATION_NEW.replace('"CTY|XX","Nuclear"', '"CTY|YY","Nuclear"')
    with pytest.raises(ValueError, match=r"holds generation in 2 areas, CTY\|XX, CTY\|YY; export one area a file"):
        read(write(two))


@pytest.mark.parametrize("text", [samples.UK_JSON, samples.UK_CSV], ids=["JSON", "CSV"])
def test_great_britain(write: Write, text: str) -> None:
    times, values, described = read(write(text))
    assert (times, values) == ([0, 1800, 3600], [[263, 118, 90]])
    assert "2024-03-01 12:00 to 2024-03-01 13:00" in described
    assert described.endswith("; Carbon Intensity API, 1 values are forecasts")


def test_regions_of_great_britain(write: Write) -> None:
    one = read_table(write(samples.UK_REGION_JSON), None, None)
    assert {name: column.tolist() for name, column in one.columns.items()} == {"Madeup": [266, 120]}
    file = write(samples.UK_REGIONS_JSON)
    assert read(file)[:2] == ([0, 1800], [[10, 30], [20, 40]])
    assert read(file, "B")[1] == [[20, 40]]


def test_skypilot_as_a_signal(write: Write) -> None:
    file = write(samples.SKYPILOT_JSON)
    times, values, described = read(file)
    assert (times, values) == ([0, 300, 600, 900, 1200, 1500], [[0, 2, 2, 1, 0, 1]])
    assert described.endswith("6 entries, 0 s to 1,500 s, usual step 300 s; SkyPilot's instances available")
    profile = Traced(file=file, open_when="above", threshold=0, on_end="repeat")
    windows = [(w.start, w.stop) for w in profile.availability("c", 0, 0).until(2400)]
    assert windows == [(300, 1200), (1500, 1800), (2100, 2400)]
    with pytest.raises(
        ValueError, match=r"volatility\.threshold must be a number with .*x\.csv, which counts instances"
    ):
        Traced(file=file)
    with pytest.raises(ValueError, match=r"must be in g/kWh, got available of .* in instances"):
        Column(file=file).read("energy.carbon")
    with pytest.raises(ValueError, match=r"energy\.price\.columns must be in a price per MWh, got available"):
        Column(file=file).read("energy.price")


def windows(profile: Intervals, client: int, until: float) -> list[tuple[float, float]]:
    return [(w.start, w.stop) for w in profile.availability(f"client_{client}", client, 0).until(until)]


def test_skypilot_as_machines(write: Write) -> None:
    file = write(samples.SKYPILOT_JSON)
    once = Intervals(file=file, on_end="down")
    assert windows(once, 0, 9000) == [(300, 1200), (1500, 9000)]
    assert windows(once, 1, 9000) == [(300, 900)]
    assert windows(once, 2, 9000) == windows(once, 0, 9000)
    again = Intervals(file=file, on_end="repeat", speedup=10)
    assert again.period == 1800
    assert windows(again, 0, 330) == [(30, 120), (150, 180), (210, 300)]
    assert once.described[0].endswith("3 times up of 2 machines, 0 s to 1,800 s; SkyPilot's instances available")


def test_a_machine_that_is_up_at_both_ends_stays_up_when_the_record_repeats(write: Write) -> None:
    file = write('{"metadata": {"gap_seconds": 10}, "data": [2, 1, 1, 2]}')
    repeated = Intervals(file=file, on_end="repeat")
    assert windows(repeated, 0, 1e6) == [(0, 1e6)]
    assert windows(repeated, 1, 100) == [(0, 10), (30, 50), (70, 90)]


def test_bamboo_by_places_and_by_names(write: Write) -> None:
    file = write(samples.BAMBOO_CSV)
    # node3 comes when node1 goes, so it takes a third place; node4 takes the one that node1 left.
    places = Intervals(file=file, on_end="down")
    assert windows(places, 0, 1000) == [(0, 60), (120, 1000)]
    assert windows(places, 1, 1000) == [(0, 180)]
    assert windows(places, 2, 1000) == [(60, 300)]
    assert places.described[0].endswith("4 times up of 3 machines, 0 s to 300 s; machines added and removed, as by "
                                        "Bamboo and Parcae")  # fmt: skip
    named = Intervals(file=file, on_end="down", match="name")
    assert [(w.start, w.stop) for w in named.availability("node3", 7, 0).until(1000)] == [(60, 300)]
    repeated = Intervals(file=file, on_end="repeat")
    assert windows(repeated, 0, 450) == [(0, 60), (120, 360), (420, 450)]


def test_parcae(write: Write) -> None:
    profile = Intervals(file=write(samples.PARCAE_TXT, "trace.txt"), on_end="repeat")
    assert profile.period == 300
    assert windows(profile, 0, 600) == [(0, 600)]
    assert windows(profile, 1, 600) == [(0, 120), (240, 420), (540, 600)]


def test_notice(write: Write) -> None:
    file = write(samples.BAMBOO_CSV)
    first = lambda **s: next(iter(Intervals(file=file, exit="drain", **s).availability("c", 0, 0).until(50)))  # noqa: E731
    assert (first(notice_s=30.0).exit, first(notice_s=30.0).notice_s) == ("drain", 30)
    assert first().notice_s == math.inf
    assert first(notice_s=0.0).exit == "crash"
    assert Intervals(file=file, exit="drain", notice_s=0.0).crash_probability == 1
    with pytest.raises(ValueError, match=r"volatility\.notice_s must be >= 0 seconds, got -1"):
        Intervals(file=file, notice_s=-1.0)


def test_packed_files(tmp_path: Path) -> None:
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(samples.WATTTIME_CSV.encode()))
    assert read(str(tmp_path / "x.csv.gz"))[1] == [[453.59237, 226.796185, 0]]
    (tmp_path / "torn.gz").write_bytes(gzip.compress(samples.WATTTIME_CSV.encode())[:40])
    with pytest.raises(ValueError, match=r"torn\.gz cannot be read as CSV or JSON in UTF-8"):
        read(str(tmp_path / "torn.gz"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"data": [', r"x\.csv cannot be read as JSON \(Expecting value.*\); download it again"),
        ("[" * 100_000, r"x\.csv has .*|cannot be read"),
        ("{}", r"x\.csv is JSON of none of electricity_maps, .*; download it again, or write CSV"),
        ('{"error": {"code": "400 Bad Request"}}', r"x\.csv holds an error, .*400 Bad Request.*, instead of data"),
        ('{"data": []}', r"is JSON of none of"),
        (samples.WATTTIME_JSON.replace('"value": 500', '"v": 500'), r"entry 2 has no value: .*; remove the entry"),
        (samples.WATTTIME_JSON.replace("500", '"much"'), r"x\.csv, entry 2: 'much' under value is not a number"),
        (samples.WATTTIME_JSON.replace("500", "true"), r"entry 2: 'True' under value is not a number"),
        (samples.WATTTIME_JSON.replace("500", "1e999"), r"entry 2: 'inf' under value is not a number"),
        (samples.WATTTIME_JSON.replace("00:05:00", "soon"), r"x\.csv, entry 2: '2024-03-01Tsoon\+00:00' is not a time"),
        (samples.WATTTIME_JSON.replace("00:05:00", "00:00:00"), r"x\.csv, entry 2: .* repeats the stamp before it"),
        (samples.UK_JSON.replace('"forecast":90,', ""), r"x\.csv, entry 3 has no forecast: "),
        (samples.UK_JSON.replace('"intensity":{"forecast":120', '"i":{"forecast":120'), "entry 2 has no intensity"),
        (samples.UK_JSON.replace('{"forecast":120,"actual":118,"index":"low"}', "7"), "entry 2 has no forecast: 7"),
        (samples.UK_JSON.replace("263", "null").replace("266", "null"), "entry 1: column intensity begins without"),
        (samples.SKYPILOT_JSON.replace("300", "0"), r"x\.csv: metadata\.gap_seconds must be > 0 seconds, got 0"),
        (samples.SKYPILOT_JSON.replace("300", '"5 min"'), r"metadata\.gap_seconds must be > 0 seconds, got 5 min"),
        (samples.SKYPILOT_JSON.replace("0, 2, 2", "0, 2.5, 2"), r"entry 2: data must count available .* got 2\.5"),
        (samples.SKYPILOT_JSON.replace("0, 2, 2", "0, -1, 2"), r"entry 2: data must count available .* got -1"),
        (samples.SKYPILOT_JSON.replace("0, 2, 2, 1, 0, 1", "1"), r"x\.csv has 1 entries; a trace needs 2 or more"),
        (samples.BAMBOO_CSV, r"x\.csv lists machines that come and go; read it with volatility=spot_trace"),
        (samples.PARCAE_TXT, r"x\.csv lists machines that come and go"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_in_one_line(write: Write, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Traced(file=write(text), threshold=100, on_end="repeat")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (samples.BAMBOO_CSV + "10000,add,node9\n", r"row 8: 10 s is earlier than the row before it; sort the rows"),
        (samples.BAMBOO_CSV + "400000,remove,node1\n", r"x\.csv, row 8: node1 is removed, but was not there; correct"),
        (samples.BAMBOO_CSV + "400000,add,node4\n", r"x\.csv, row 8: node4 is added again before it was removed"),
        (samples.BAMBOO_CSV + "400000,stop,node4\n", r"row 8: a machine is added or removed, got stop; write"),
        (samples.BAMBOO_CSV + "soon,add,node9\n", r"x\.csv, row 8: expected MILLISECONDS,add,NODE .* got soon,add"),
        (samples.PARCAE_TXT + "[300000]\n", r"row 6: expected MILLISECONDS,add,NODE .*, got \[300000\]; cor"),
        (samples.PARCAE_TXT + '[3e5, "add", {"nodes": 3}]\n', r"row 6: expected MILLISECONDS,add,NODE"),
        ('{"metadata": {"gap_seconds": 5}, "data": [0, 0]}', r"x\.csv never has an instance; use another trace"),
        (samples.WATTTIME_JSON, r"x\.csv is no trace of spot instances; read it with volatility=trace"),
    ],
)  # fmt: skip
def test_a_damaged_record_is_refused_in_one_line(write: Write, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Intervals(file=write(text), on_end="repeat")
    assert "\n" not in str(caught.value)


def test_a_period_shorter_than_the_record_is_refused(write: Write) -> None:
    with pytest.raises(
        ValueError, match=r"volatility\.period_s=310\.0: 0 begins again at 610 s, but .* row 6 stops at 1800 s"
    ):
        Intervals(file=write(samples.SKYPILOT_JSON), on_end="repeat", period_s=310.0)


def test_one_file_for_each_site(write: Write) -> None:
    files = [write(samples.ELECTRICITY_MAPS_OLD, "XX_2023.csv"), write(samples.UK_JSON, "GB.json")]
    with pytest.raises(
        ValueError, match=r"threshold=120 never opens column Carbon Intensity .* of .*XX_2023\.csv long"
    ):
        Traced(file=files, threshold=120)
    profile = Traced(file=files, threshold=145, on_end="down")
    assert list(profile.signals) == ["XX_2023", "GB"]
    assert [(w.start, w.stop) for w in profile.availability("c", 0, 0).until(9999)] == [(3600, 7200)]
    assert [(w.start, w.stop) for w in profile.availability("c", 1, 0).until(9999)] == [(1800, 5400)]
    assert [line.partition(":")[0] for line in profile.described] == files
    by_name = Traced(file=files, threshold=145, on_end="down", columns={"b": "GB", "a": "XX_2023"})
    assert (by_name.column("a", 0), by_name.column("b", 0)) == ("XX_2023", "GB")
    traces, lines = Column(file=files).read("energy.carbon")
    assert [float(trace.value(0.0)) for trace in traces.values()] == [150.25, 263]
    assert len(lines) == 2
    with pytest.raises(ValueError, match=r"volatility\.columns names FR, which is none of XX_2023, GB; name files"):
        Traced(file=files, threshold=120, columns={"a": "FR"})
    with pytest.raises(ValueError, match=r"volatility\.file must name files of different names, got GB twice"):
        Traced(file=[files[1], files[1]], threshold=120)
    with pytest.raises(ValueError, match=r"energy\.carbon\.file must name at least one file, got \[\]"):
        Column(file=[]).read("energy.carbon")


def test_the_same_columns_of_each_file(write: Write) -> None:
    files = [write(samples.ELECTRICITY_MAPS_OLD, "a.csv"), write(samples.ELECTRICITY_MAPS_NEW, "b.csv")]
    profile = Traced(file=files, columns=["direct", "renewable"], threshold="p50", on_end="down")
    assert list(profile.signals) == ["a: direct", "a: renewable", "b: direct", "b: renewable"]


def test_the_hour_that_repeats_in_autumn_in_several_areas(write: Write) -> None:
    hours = [("01", "02"), ("02", "03"), ("02", "03"), ("03", "04")]
    rows = [
        f'"27/10/2024 {a}:00:00 - 27/10/2024 {b}:00:00","BZN|{area}","Without Sequence","{k}{at}"'
        for k, area in enumerate(("XX", "YY"), start=1)
        for at, (a, b) in enumerate(hours)
    ]
    header = '"MTU (CET/CEST)","Area","Sequence","Day-ahead Price (EUR/MWh)"'
    times, values, _ = read(write("\n".join([header, *rows])))
    assert (times, values) == ([0, 3600, 7200, 10800], [[10, 11, 12, 13], [20, 21, 22, 23]])
