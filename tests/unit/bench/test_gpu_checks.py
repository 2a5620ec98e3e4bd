"""The checks on a GPU (`make gpu`): verdicts, limits, results; the steps themselves are stand-ins."""

import importlib
import importlib.util
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


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(GPU))
    spec = importlib.util.spec_from_file_location("gpu_checks", GPU / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_step_has_its_file_and_a_share_of_the_time(checks: ModuleType) -> None:
    assert {f"step_{name}" for name in checks.STEPS} == {path.stem for path in GPU.glob("step_*.py")}
    assert all(kept <= limit for limit, kept in checks.STEPS.values())
    assert sum(kept for _, kept in checks.STEPS.values()) < checks.TOTAL_S


def test_a_failed_step_keeps_no_other_from_running(
    checks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, then in (("a", "sys.exit('last words')"), ("b", "")):
        record = {"figure": f"figure of {name}"}
        (tmp_path / f"step_{name}.py").write_text(STEP.format(record=record, then=then), encoding="utf-8")
    monkeypatch.setattr(checks, "HERE", tmp_path)
    monkeypatch.setattr(checks, "STEPS", {"a": (60.0, 5.0), "b": (60.0, 5.0)})
    assert checks.main(["--device", "cpu", "--out", str(tmp_path / "out")]) == 1
    steps = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["steps"]
    assert [(step["name"], step["verdict"]) for step in steps] == [("a", "failed"), ("b", "passed")]
    assert capsys.readouterr().out.splitlines()[-1].startswith("failed in ")
    (tmp_path / "step_a.py").write_text(STEP.format(record={}, then="sys.exit(77)"), encoding="utf-8")
    assert checks.main(["--device", "cpu", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("passed, without a in ")


def test_a_machine_without_the_device_is_told_so_in_one_line(
    checks: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert checks.main(["--device", "cuda"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("--device must be on this machine, got cuda") and error.count("\n") == 1
