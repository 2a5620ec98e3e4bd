"""Runs that follow files of publishers as they are downloaded."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support import public_traces as samples

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def go(command: Command, tiny: list[str], tmp_path: Path) -> Callable[..., tuple[Path, str]]:
    """Run the protocol without tensors; returns the run's folder and what it printed."""

    def run(*overrides: str) -> tuple[Path, str]:
        general = [override for override in tiny if not override.startswith("volatility.")]
        folder = tmp_path / "run"
        words = [*general, "runtime.compute=analytic", "network=datacenter", f"hydra.run.dir={folder}", *overrides]
        ended = command("run", *words, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        return folder, ended.stdout

    return run


def changes(folder: Path, client: str, until: float) -> list[tuple[str, float]]:
    """When a client came and went, up to a second of the run."""
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [
        (event["event"].removeprefix("Client"), event["t"])
        for event in events
        if event["event"] in ("ClientUp", "ClientDown") and event["client"] == client and event["t"] < until
    ]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (samples.ELECTRICITY_MAPS_OLD, 150.25),
        (samples.ELECTRICITY_MAPS_NEW, 150.25),
        (samples.WATTTIME_JSON, 453.59237),
        (samples.WATTTIME_CSV, 453.59237),
        (samples.ENTSOE_GENERATION_NEW, 131.0),
        (samples.UK_JSON, 263.0),
    ],
    ids=["Electricity Maps", "Electricity Maps since 2024", "WattTime", "WattTime's CSV", "ENTSO-E", "Great Britain"],
)
def test_carbon_and_cost_follow_the_files(go, tmp_path: Path, text: str, first: float) -> None:
    """The run ends before the first values do."""
    (tmp_path / "carbon").write_text(text, encoding="utf-8")
    (tmp_path / "price").write_text(samples.ENTSOE_PRICE_NEW, encoding="utf-8")
    folder, _ = go(
        "volatility=none", "clients=2", "energy=trace", "energy.carbon.file=carbon", "energy.price.file=price"
    )
    summary = json.loads((folder / "summary.json").read_text())
    assert 0 < summary["energy"]["hours"] < 300 / 3600
    assert summary["co2_g"] == pytest.approx(summary["energy_kwh"] * first)
    assert summary["energy"]["total"]["cost"] == pytest.approx(summary["energy_kwh"] * 50.1 / 1000)


def test_each_site_follows_its_own_file(go, tmp_path: Path) -> None:
    (tmp_path / "XX.csv").write_text(samples.ELECTRICITY_MAPS_OLD, encoding="utf-8")
    (tmp_path / "GB.json").write_text(samples.UK_JSON)
    both = "[XX.csv,GB.json]"
    folder, said = go(
        "clients=2", "energy=trace", f"energy.carbon.file={both}", "energy.price=null", "volatility=trace",
        f"volatility.file={both}", "volatility.threshold=145", "volatility.on_end=repeat", "volatility.hysteresis_s=0",
        "volatility.provisioning_s=0", "volatility.speedup=180", "energy.carbon.on_end=repeat", "rounds=14",
    )  # fmt: skip
    # An hour takes 20 s. XX is below 145 in its second hour, Great Britain after its first half-hour.
    assert changes(folder, "client_0", 45) == [("Up", 20), ("Down", 40)]
    assert changes(folder, "client_1", 25) == [("Up", 10)]
    clients = json.loads((folder / "summary.json").read_text())["energy"]["clients"]
    assert clients["client_0"]["co2_g"] == pytest.approx(clients["client_0"]["kwh"] * 140.75)
    assert said.count("GB.json: 3 entries") == said.count("XX.csv: 3 rows") == 1  # though both groups read them


def test_clients_are_up_while_the_price_is_negative(go, tmp_path: Path) -> None:
    (tmp_path / "price.csv").write_text(samples.ENTSOE_PRICE_NEW, encoding="utf-8")
    folder, said = go(
        "volatility=trace", "volatility.file=price.csv", "volatility.threshold=0", "volatility.on_end=repeat",
        "volatility.hysteresis_s=0", "volatility.provisioning_s=0", "volatility.speedup=360", "clients=2", "rounds=6",
    )  # fmt: skip
    # Hours take 10 s; the second of three has a price of -5.
    assert changes(folder, "client_1", 30) == [("Up", 10), ("Down", 20)]
    assert said.count("price.csv: 3 rows, 2025-03-01 00:00 to 2025-03-01 02:00, usual step 3,600 s, read as day first; "
                      "ENTSO-E, Sequence Sequence 1\n") == 1  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected", "line"),
    [
        (samples.SKYPILOT_JSON, [("Up", 5), ("Down", 15)], "3 times up of 2 machines, 0 s to 1,800 s; SkyPilot's"),
        (
            samples.BAMBOO_CSV,
            [("Up", 0), ("Down", 3), ("Up", 5)],
            "4 times up of 3 machines, 0 s to 300 s; machines added and",
        ),
        (samples.PARCAE_TXT, [("Up", 0), ("Down", 2), ("Up", 4)], "3 times up of 2 machines, 0 s to 300 s; machines"),
    ],
    ids=["SkyPilot", "Bamboo", "Parcae"],
)
def test_clients_are_up_as_spot_instances_were(
    go, tmp_path: Path, text: str, expected: list[tuple[str, float]], line: str
) -> None:
    (tmp_path / "spot").write_text(text)
    folder, said = go("volatility=spot_trace", "volatility.file=spot", "volatility.notice_s=0", "clients=2")
    assert changes(folder, "client_1", 6.5 if expected[0][1] == 0 else 20) == [(what, at) for what, at in expected]
    assert said.count(f"spot: {line}") == 1


def test_the_shipped_trace_of_spot_instances_plays(go) -> None:
    folder, said = go("volatility=spot_trace", "clients=4")
    assert json.loads((folder / "summary.json").read_text())["rounds"] == 3
    assert "synthetic_spot" not in said
