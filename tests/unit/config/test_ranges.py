"""Ranges in the annotations of settings, and sizes that no machine can hold."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

from fednano.config.checks import check_record
from fednano.core import tensors
from fednano.core.ranges import Range
from fednano.experiment.sizes import parameters
from fednano.model.arch import NANOCHAT, SEED, Arch
from fednano.model.gpt import GPTConfig
from fednano.model.scaling import Depth
from fednano.model.shapes import blueprint
from fednano.process import memory


@dataclass
class Settings:
    share: Annotated[float, Range(gt=0, le=1)] | None = None
    several: tuple[Annotated[int, Range(ge=2, lt=5)], ...] = ()
    size: float | list[float] = 1.0
    endless: Annotated[float, Range(ge=0, le=math.inf)] = 0.0
    count: int = 0
    text: str = ""


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("share", 0, "must be > 0, got 0; use more"),
        ("share", 1.5, "must be <= 1, got 1.5; use 1 or less"),
        ("share", math.nan, "must be a number, got nan; use one"),
        ("several", [2, 5], "must be < 5, got 5; use less"),
        ("several", [1], "must be >= 2, got 1; use 2 or more"),
        ("size", [1.0, 1e300], "must be 0, or 1e-12 to 1e+15 in size, got 1e+300; "),
        ("size", math.nan, "must be 0, or 1e-12 to 1e+15 in size, got nan; "),
        ("endless", math.nan, "must be a number, got nan; use one"),
        ("count", 1 << 63, "must fit into 64 bits, got 9223372036854775808; "),
        ("text", "x" * 5000, "must have at most 4096 characters, got 5000; "),
        ("text", "a\0b", "must be text without null characters"),
        ("text", "\udcff", "must be text without null characters and in UTF-8"),
    ],
)
def test_what_is_out_of_range_is_refused(key: str, value: object, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_record({key: value}, Settings, "group")
    assert str(caught.value).startswith(f"group.{key} {says}")


def test_what_is_in_range_passes() -> None:
    record = {"share": None, "several": [2, 4], "size": [0, 1e-12, -1e15], "endless": math.inf, "count": (1 << 63) - 1}
    check_record({**record, "text": "ünï\n"}, Settings, "group")
    check_record({"share": 1}, Settings, "group")


@pytest.mark.parametrize("arch", [SEED, NANOCHAT])
@pytest.mark.parametrize("depth", [Depth(2), Depth(5, kv_groups=3)])
def test_parameters_are_counted_without_building_a_model(depth: Depth, arch: Arch) -> None:
    built = tensors.count(blueprint(GPTConfig.derive(depth, arch, 300)).state_dict())
    assert sum(parameters(depth, arch, 300)) == pytest.approx(built, rel=1e-3)


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("none", "max\n"), ("limit", "1048576\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "CGROUPS", (tmp_path / "none", tmp_path / "missing"))
    whole = memory.machine_bytes()
    monkeypatch.setattr(memory, "CGROUPS", (tmp_path / "none", tmp_path / "limit"))
    assert memory.machine_bytes() == 1 << 20 < whole
