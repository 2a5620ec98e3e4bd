"""The checks on a GPU (`make gpu`): verdicts, limits, results; the steps themselves are stand-ins."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
from support.paths import REPOSITORY

GPU = REPOSITORY / "tests" / "gpu"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    monkeypatch.syspath_prepend(str(GPU))
    return importlib.import_module("running"), importlib.import_module("report")


STEP = """
import json, sys, time
from pathlib import Path
out = Path(sys.argv[sys.argv.index("--out") + 1])
(out / "figures.json").write_text(json.dumps({record}))
print("first line", flush=True)
{then}
"""


@pytest.mark.parametrize(
    ("then", "limit", "verdict", "reason"),
    [
        ("", 60.0, "passed", ""),
        ("sys.exit(77)", 60.0, "skipped", "one device"),
        ("sys.exit('last words')", 60.0, "failed", "one device"),
        ("time.sleep(600)", 0.5, "failed", "no end within 0 s"),
    ],
)
def test_a_step_has_one_verdict(
    gpu: tuple[ModuleType, ModuleType],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    then: str,
    limit: float,
    verdict: str,
    reason: str,
) -> None:
    running, report = gpu
    record = {"figure": "8 tokens/s", "reason": "one device", "figures": {"rows": [{"model": "d2", "step, ms": 3}]}}
    (tmp_path / "step_x.py").write_text(STEP.format(record=record, then=then), encoding="utf-8")
    outcome = running.run_step(tmp_path, "x", "cpu", tmp_path, limit, "")
    assert (outcome.verdict, outcome.reason) == (verdict, reason if verdict != "passed" else "")
    assert ("first line" in capsys.readouterr().out) == (verdict == "failed")
    line = report.verdict_line(outcome)
    assert line.startswith(f"x           {verdict}") and "\n" not in line
    if limit > 1:
        written = report.markdown({"device": "cpu"}, [outcome], "cpu")
        assert f"| x | {verdict} |" in written and "| d2 | 3 |" in written
        json.dumps(outcome.record())


def test_every_step_has_its_file_and_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(GPU))
    spec = importlib.util.spec_from_file_location("gpu_checks", GPU / "__main__.py")
    checks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checks)
    assert {f"step_{name}" for name in checks.STEPS} == {path.stem for path in GPU.glob("step_*.py")}
    assert all(kept <= limit for limit, kept in checks.STEPS.values())
    assert sum(kept for _, kept in checks.STEPS.values()) < checks.TOTAL_S
