"""Making synthetic traces: the parts that need no pvlib, and the shipped files where it is there."""

from pathlib import Path

import numpy as np
import pytest

from fednano.traces import solar
from fednano.traces.table import read_table


def test_clouds_are_seeded_shares() -> None:
    drawn = solar.clouds(30, 0, "here")
    assert drawn.shape == (30 * 288,)
    assert 0.1 <= drawn.min() < 0.5 < drawn.max() <= 1.0
    assert (drawn == solar.clouds(30, 0, "here")).all()
    assert (drawn != solar.clouds(30, 0, "there")).any()


def test_a_mean_reverting_walk_has_deviation_one_and_forgets() -> None:
    walk = solar.mean_reverting(np.random.default_rng(0).normal(size=100_000), steps=6)
    assert walk.std() == pytest.approx(1, abs=0.05)
    assert np.corrcoef(walk[:-6], walk[6:])[0, 1] == pytest.approx(np.exp(-1), abs=0.03)


def test_the_sun_lowers_carbon_and_price() -> None:
    light, noon = np.full(5000, 900.0), np.full(5000, 12.0)
    bright = solar.carbon(light, noon, 0, "a")
    dark = solar.carbon(0 * light, noon, 0, "a")
    assert dark.mean() - bright.mean() == pytest.approx(0.28 * 900, rel=0.05)
    assert solar.price(bright, 0, "a").mean() < 0 < solar.price(dark, 0, "a").mean()


def test_what_is_curtailed_emits_next_to_nothing() -> None:
    assert solar.marginal(np.full(500, 1000.0), 0, "a").max() < 50
    assert solar.marginal(np.zeros(500), 0, "a").min() > 250


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--site", "almeria"], "--site must be NAME,LATITUDE,LONGITUDE, got almeria"),
        (["--site", "x,95,0"], "--site must have a name, a latitude from -90 to 90"),
        (["--days", "0"], "--days must be >= 1, got 0"),
        (["--begin", "soon"], "soon"),
    ],
)
def test_bad_arguments_end_with_a_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert solar.main([*arguments, "--out", str(tmp_path / "new")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_the_shipped_traces_are_what_the_command_makes(tmp_path: Path) -> None:
    pytest.importorskip("pvlib", reason="pip install 'fednano[solar]'")
    assert solar.main(["--out", str(tmp_path)]) == 0
    for name in ("synthetic_solar.csv", "synthetic_carbon.csv", "synthetic_marginal.csv", "synthetic_price.csv"):
        made, shipped = read_table(str(tmp_path / name), None, None), read_table(f"package:{name}", None, None)
        assert made.times.tolist() == shipped.times.tolist()
        for column, values in shipped.columns.items():
            # Another processor may round the last digit otherwise.
            assert made.columns[column] == pytest.approx(values, abs=1.01)
