"""Replaying a run's own tape: a virtual run predicts itself."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from fednano import fidelity
from fednano.cli import compose_config
from fednano.fidelity import compare, main
from fednano.report.measured import Measured, measure
from fednano.tape import read_tape

Run = Callable[..., dict[str, Any]]
VOLATILE = ("volatility.exit=drain", "rounds=8", "runtime.compute=analytic", "network=dsl")


@pytest.fixture
def volatile(run: Run, tiny: list[str]) -> Path:
    """The folder of a run of which clients come and go, with the configuration that a user's run leaves."""
    folder: Path = run(*VOLATILE)["folder"]
    cfg = compose_config([*tiny, *VOLATILE])
    OmegaConf.save(
        OmegaConf.masked_copy(cfg, [str(k) for k in cfg if k not in ("hydra", "resume")]), folder / "config.yaml"
    )
    return folder


def test_the_figures_of_a_tape(volatile: Path) -> None:
    measured = measure(read_tape(volatile / "events.jsonl"))
    assert measured.step_s == pytest.approx(dict.fromkeys(measured.step_s, 1.0))
    assert len(measured.rounds) == 8
    assert any(len(windows) > 1 for windows in measured.windows.values())


def test_a_virtual_run_predicts_itself(volatile: Path, capsys) -> None:
    assert main([str(volatile), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {name: row["off"] for name, row in found.items()} == pytest.approx(dict.fromkeys(found, 0.0), abs=0.02)
    before = sorted(volatile.rglob("*"))
    assert main([str(volatile)]) == 0
    assert "goodput" in capsys.readouterr().out
    assert sorted(volatile.rglob("*")) == before


def test_a_prediction_that_is_off_is_told_by_the_exit_code(
    volatile: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def slower(folder: Path, measured: Measured) -> Measured:
        return replace(measured, rounds=tuple(1.2 * seconds for seconds in measured.rounds))

    monkeypatch.setattr(fidelity, "replay", slower)
    assert compare(volatile)["mean round, s"]["off"] == pytest.approx(0.2, abs=0.01)
    assert main([str(volatile)]) == 1
    assert main([str(volatile), "--within", "0.3"]) == 0


def test_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no events.jsonl; name the folder of a run"):
        compare(tmp_path)
