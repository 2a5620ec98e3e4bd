"""Energy and carbon as the report, the terminal and W&B show them."""

import json
from pathlib import Path
from typing import Any

from support.event_logs import CLIENTS, volatile_run
from support.pages import Page, page_of, tiles, write_run

from fednano.report import units
from fednano.report.energy import compared_with_always_on, section
from fednano.report.history import History
from fednano.report.sinks import flat
from fednano.report.terminal.display import summary_lines


def figures(kwh: float, co2_g: float | None, **more: Any) -> dict[str, Any]:
    return {"on_h": 2.0, "train_h": 1.5, "kwh": kwh, "co2_g": co2_g, "cost": None, "share_in_windows": 0.9, **more}


def baseline(co2_g: float | None, share: float | None) -> dict[str, Any]:
    ratios = {"hours": 2.0, "kwh": 0.5, "co2_g": share, "cost": None}
    return {"hours": 1.0, **figures(8.0, co2_g), "run_to_it": ratios}


def account(carbon: bool = True) -> dict[str, Any]:
    """Two sites of which the second took no part; the first cannot finish alone in its windows."""
    g, share = (400.0, 0.125) if carbon else (None, None)
    idle = {**figures(0.0, 0.0 if carbon else None), "train_h": 0.0, "share_in_windows": None}
    return {
        "integration": "exact",
        "currency": "EUR",
        "hours": 3.0,
        "total": figures(4.0, g),
        "clients": {CLIENTS[0]: figures(4.0, g, cost=-1.25), CLIENTS[1]: idle},
        "sites": 2,
        "sites_compared": 2,
        "baselines": {
            "always_on": {CLIENTS[0]: baseline(g and 8 * g, share), CLIENTS[1]: baseline(g and 2 * g, share and 0.5)},
            "pausing": {CLIENTS[0]: None},
            "oracle": baseline(g and g / 4, share and 4.0),
        },
    }


def write(folder: Path, carbon: bool = True, curves: bool = True) -> Page:
    energy = account(carbon)
    total = energy["total"]
    run = write_run(folder, volatile_run(6), energy=energy, energy_kwh=total["kwh"], co2_g=total["co2_g"])
    drawn = {CLIENTS[0]: [(0.0, 100.0), (60.0, 300.0), (120.0, 300.0), (360.0, 300.0)]} if curves else {}
    (run / "energy.json").write_text(json.dumps({"carbon_g_kwh": drawn}))
    return page_of(run)


def cells(page: Page) -> list[str]:
    return page.texts("td")


def test_the_report_names_what_each_ratio_is_relative_to(tmp_path: Path) -> None:
    page = write(tmp_path)
    assert tiles(page)["Energy used"] == ("4.00 kWh", "90.0 % inside the sites' windows")
    assert tiles(page)["CO₂ emitted"][0] == "400 g"
    assert "12.5 % of 3.20 kg" in cells(page)
    assert "50.0 % of 800 g" in cells(page)
    assert "-1.25 EUR" in cells(page)
    assert any("oracle" in text and "100 g; the run took 4.00 times" in text for text in page.texts("p", class_="hint"))
    assert len(page.texts("g", class_="strip")) == 1
    paths = [attrs["d"] for tag, attrs, _ in page.elements if tag == "path" and attrs.get("class") == "intensity"]
    # One step, from 100 to 300, at a sixth of the width; what stays the same is left out.
    assert [path.count("V") for path in paths if path] == [1]


def test_a_run_that_took_many_times_as_much_reads_as_a_multiple(tmp_path: Path) -> None:
    energy = account()
    energy["baselines"]["always_on"][CLIENTS[0]]["run_to_it"]["co2_g"] = 15.235
    page = page_of(write_run(tmp_path, volatile_run(6), energy=energy, energy_kwh=4.0, co2_g=400.0))
    assert "15.2 times 3.20 kg" in cells(page)
    assert compared_with_always_on({"energy": energy}) == [(CLIENTS[0], "15.2 times 3.20 kg")]


def test_the_report_says_where_it_does_not_compare_all_sites(tmp_path: Path) -> None:
    hints = write(tmp_path / "two").texts("p", class_="hint")
    assert not any("are compared" in text for text in hints)
    energy = {**account(), "sites": 1000, "sites_compared": 32}
    page = page_of(write_run(tmp_path / "many", volatile_run(6), energy=energy, energy_kwh=4.0, co2_g=400.0))
    assert any("Only the first 32 of 1,000 sites are compared." in text for text in page.texts("p", class_="hint"))
    compared = compared_with_always_on({"energy": energy})
    assert compared == [
        (CLIENTS[0], "12.5 % of 3.20 kg"),
        ("", "only the first 32 of 1,000 sites are compared"),
    ]


def test_a_site_is_drawn_with_the_work_of_all_rounds() -> None:
    """Also with that of rounds so long ago that it is kept compactly."""
    history = History()
    for event in volatile_run(100):
        history.add(event)
    history.finish()
    drawn = section(history, {"energy": account()}, {CLIENTS[0]: [(0.0, 100.0), (6000.0, 300.0)]})
    assert drawn is not None
    bars = drawn.strips[0].work
    first, last = min(bar.x for bar in bars), max(bar.x + bar.width for bar in bars)
    assert first < drawn.frame.left + 30 and last > drawn.frame.x1 - 30


def test_energy_alone_is_compared_by_energy(tmp_path: Path) -> None:
    page = write(tmp_path, carbon=False, curves=False)
    assert "CO₂ emitted" not in tiles(page)
    assert "50.0 % of 8.00 kWh" in cells(page)
    assert page.texts("svg", class_="strips") == []


def test_a_run_without_an_account_has_no_section(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path, volatile_run(3)))
    assert page.texts("section", id="energy") == []
    assert compared_with_always_on({"energy": None}) == []


def test_the_terminal_names_few_sites() -> None:
    sites = [f"client_{k}" for k in range(7)]
    baselines = {site: {"co2_g": 10.0, "run_to_it": {"co2_g": 0.5}} for site in sites}
    energy = {"clients": {site: {"train_h": 1.0} for site in sites}, "baselines": {"always_on": baselines}}
    *named, rest = compared_with_always_on({"energy": energy})
    assert named == [(f"client_{k}", "50.0 % of 10.0 g") for k in range(5)]
    assert rest == ("", "and 2 more sites")


def test_the_terminal_and_wandb_show_it() -> None:
    summary = {"energy_kwh": 4.0, "co2_g": 400.0, "energy": account()}
    lines = dict(summary_lines(summary))
    assert (lines["energy used"], lines["CO2 emitted"]) == ("4.00 kWh", "400 g")
    assert lines["CO2 relative to each site training alone and always on:"] == ""
    assert lines[f"  {CLIENTS[0]}"] == "12.5 % of 3.20 kg"
    assert f"  {CLIENTS[1]}" not in lines  # it took no part
    keys = flat(summary, "/")
    assert keys[f"energy/baselines/always_on/{CLIENTS[0]}/run_to_it/co2_g"] == 0.125
    assert keys["energy/total/kwh"] == 4.0


def test_units_of_energy_and_mass() -> None:
    assert [units.energy(v) for v in (12_345.0, 36.77, 0.0421, 0.0, None)] == [
        "12.3 MWh", "36.8 kWh", "42.1 Wh", "0.00 Wh", "not measured",
    ]  # fmt: skip
    assert [units.mass(v) for v in (2e6, 1420.0, 999.9, 0.0123, float("nan"))] == [
        "2.00 t", "1.42 kg", "1.00 kg", "12.3 mg", "not measured",
    ]  # fmt: skip
