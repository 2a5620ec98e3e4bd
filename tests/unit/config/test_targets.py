"""The limits of `_target_`: what is not allowed is refused before it is imported."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from fednano.config.build import build_groups
from fednano.config.compose import command_line, compose_config
from fednano.config.places import modules_named_in, own_modules
from fednano.config.recorded import check_recorded
from fednano.config.targets import VARIABLE, allow, allowed
from fednano.experiment.groups import GROUPS
from fednano.experiment.resume import reopen
from fednano.node.settings import told_config

STRATEGY = """
import pathlib
from dataclasses import dataclass
from subprocess import Popen
from fednano.strategy.synchronous import Synchronous

pathlib.Path(__file__).with_name("imported").touch()


class Own(Synchronous):
    pass


def made(name: str = "made"):
    return name
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `theirs`; `imported` lies beside it once it has been imported."""
    (tmp_path / "theirs.py").write_text(STRATEGY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    return tmp_path


def node(target: Any, **keys: Any) -> DictConfig:
    return OmegaConf.create({"codec": {"_target_": target, **keys}})


def built(target: Any, **keys: Any) -> Any:
    return build_groups(node(target, **keys), ["codec"])["codec"]


def test_a_class_outside_is_refused_unless_its_module_is_allowed(theirs: Path) -> None:
    overrides = ["strategy._target_=theirs.Own"]
    says = "strategy._target_ must be a class of fednano or of an allowed module, got theirs.Own; "
    says += "add --allow-module theirs"
    with pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
        build_groups(compose_config(overrides), GROUPS)
    assert not (theirs / "imported").exists()
    allow(["theirs"])
    assert type(build_groups(compose_config(overrides), GROUPS)["strategy"]).__name__ == "Own"
    assert (theirs / "imported").exists()


def test_nothing_is_imported_before_every_group_is_checked(theirs: Path) -> None:
    allow(["theirs"])
    cfg = OmegaConf.create({"codec": {"_target_": "theirs.Own"}, "last": {"_target_": "os.system"}})
    with pytest.raises(ValueError, match=r"^last\._target_ must be a class of fednano or of an allowed module"):
        build_groups(cfg, ["codec", "last"])
    assert not (theirs / "imported").exists()


@pytest.mark.parametrize(
    "keys",
    [
        {"_x": {"_target_": "theirs.Own"}},
        {"outer": [{"a": [{"_target_": "theirs.Own"}]}]},
        {"outer": {"a": {"b": {"_target_": "theirs.Own"}}}},
    ],
)
def test_targets_are_found_at_any_depth(theirs: Path, keys: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=r"_target_ must be a class of fednano or of an allowed module, got theirs\.Own"
    ):
        built("fednano.strategy.synchronous.Synchronous", **keys)
    assert not (theirs / "imported").exists()


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("fednano.core.files.remove", "must be one of fednano's choices"),
        ("fednano.process.child.Child", "must be one of fednano's choices"),
        ("fednano.codec.fp32.math.sqrt", "must be one of fednano's choices"),
        ("fednano.tasks.bundle.read_bundle", "must be a class, got"),
        ("fednano.data.hub.ThreadPoolExecutor", "must be defined in its module"),
        ("fednano.codec.fp32.NoSuch", "cannot be imported"),
        ("fednano_mine.X", "add --allow-module fednano_mine"),
        ("os.system", "add --allow-module os"),
        ("system", "must be the dotted path of a class, got system"),
        ("os;x.system", "must be the dotted path of a class"),
        (["os.system"], "must be the dotted path of a class"),
        (None, "must be the dotted path of a class, got nothing"),
    ],
)
def test_only_classes_that_are_choices_may_be_named(target: Any, says: str) -> None:
    with pytest.raises(ValueError, match=r"^codec\._target_") as refused:
        built(target)
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_an_allowed_module_gives_its_own_classes_and_factories_only(theirs: Path) -> None:
    allow(["theirs"])
    assert built("theirs.made", name="x") == "x"
    assert built("theirs.made", _partial_=True)(name="y") == "y"
    assert built("theirs.made", _convert_="all", _recursive_=True) == "made"
    for target, says in (("theirs.Popen", "of subprocess"), ("theirs.pathlib", "must be a class")):
        with pytest.raises(ValueError, match=says):
            built(target)
    for keys in ({"_args_": ["x"]}, {"_partial_": "yes"}, {"_convert_": "none"}, {"_recursive_": False}, {"_y": 1}):
        with pytest.raises(ValueError, match=rf"^codec\.{next(iter(keys))}"):
            built("theirs.made", **keys)


def test_a_value_is_resolved_once(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(["theirs"])
    monkeypatch.setenv("SECRET", "hunter2")
    assert built("theirs.made", name="\\${oc.env:SECRET}") == "${oc.env:SECRET}"
    hidden = "\\${oc.decode:'{_target_: os.getcwd}'}"
    assert isinstance(built("theirs.made", name=hidden), str)


def test_fednanos_own_choices_are_allowed() -> None:
    build_groups(compose_config([]), GROUPS)
    assert "fednano.strategy.outer.nesterov" in own_modules()
    assert not any(name.startswith(("fednano.core", "fednano.process")) for name in own_modules())


def line(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["run", *words])
    command_line()
    return allowed()


def test_the_command_line_allows_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("rounds=2", "--allow-module", "mine", "-m", "--allow-module=other.part", "seed=1,2")
    assert line(monkeypatch, *words) == ["mine", "other.part"]
    assert sys.argv[1:] == ["-m", "rounds=2", "seed=1,2"], "Hydra does not know --allow-module"
    for bad in (["--allow-module"], ["--allow-module", "../x"], ["--allow-module="], ["--allow-module=a,b"]):
        with pytest.raises(ValueError, match="--allow-module"):
            line(monkeypatch, *bad)


@pytest.mark.parametrize("option", ["--config-dir={}", "hydra.searchpath=['file://{}']", "hydra.searchpath=['{}']"])
def test_a_folder_that_the_user_gives_allows_the_modules_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    (tmp_path / "strategy").mkdir()
    (tmp_path / "strategy" / "own.yaml").write_text(
        "# _target_: no.comment\n_target_: mine.a.B\nouter: [{_target_: c.D}]\n"
    )
    (tmp_path / "broken.yaml").write_text("_target_: [")
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "events.jsonl").touch()
    (tmp_path / "outputs" / "config.yaml").write_text("_target_: foreign.X\n")
    assert line(monkeypatch, option.format(tmp_path)) == ["c", "mine.a"]
    assert modules_named_in(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    "override",
    [
        "hydra.launcher._target_=os.system",
        "+hydra.callbacks={x: {_target_: os.system}}",
        "++hydra.sweeper._target_=os.system",
    ],
)
def test_hydras_own_keys_name_no_other_class(monkeypatch: pytest.MonkeyPatch, override: str) -> None:
    with pytest.raises(ValueError, match=r"^hydra\.\S*_target_ must be .* got os\.system; add --allow-module os$"):
        line(monkeypatch, override)
    line(monkeypatch, "hydra.launcher._target_=hydra._internal.core_plugins.basic_launcher.BasicLauncher")


def test_a_package_of_yaml_files_is_imported_only_if_allowed(theirs: Path) -> None:
    with pytest.raises(ValueError, match=r"got pkg://theirs; add --allow-module theirs$"):
        compose_config(["hydra.searchpath=['pkg://theirs']"])
    assert not (theirs / "imported").exists()


def test_resuming_a_foreign_folder_imports_nothing(theirs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "events.jsonl").touch()
    (folder / "config.yaml").write_text("strategy: {_target_: theirs.Own}\nname: x\n")
    says = "strategy._target_ must be .* got theirs.Own; add --allow-module theirs, if you trust this configuration$"
    with pytest.raises(ValueError, match=f"^resume={folder}: {says}"):
        reopen([f"resume={folder}"])
    allow(["theirs"])
    with pytest.raises(ValueError, match="has no checkpoint"):
        reopen([f"resume={folder}"])
    assert not (theirs / "imported").exists()


@pytest.mark.parametrize("value", ["http://a/${oc.env:KEY}", "${a.${oc.env:KEY}}", "${${name}:KEY}", "\\${oc.env:KEY}"])
def test_a_recorded_configuration_reads_no_environment(value: str) -> None:
    cfg = OmegaConf.create({"name": "oc.env", "data": {"urls": ["http://x:80", value, "${name}"]}})
    with pytest.raises(ValueError, match=r"^given: data\.urls\.1 must call no resolver in a recorded configuration"):
        check_recorded(cfg, "given")
    cfg.data.urls[1] = "http://a:1/${name}"
    check_recorded(cfg, "given")


def test_only_a_nodes_owner_allows_modules_there(tmp_path: Path) -> None:
    config = {"data": {"_target_": "fednano.data.local.TextFolder"}, "strategy": {"_target_": "theirs.Own"}}
    config |= {"allow_modules": ["theirs"], VARIABLE: "theirs"}  # whatever a server may call it
    told = tmp_path / "run.json"
    told.write_text(json.dumps({"run": "r", "config": json.dumps(config), VARIABLE: "theirs", "allow": ["theirs"]}))
    with pytest.raises(ValueError, match=r"^the server's configuration: strategy\._target_ must be .* got theirs\.Own"):
        told_config(told, None)
    allow(["theirs"])
    assert told_config(told, None)[1].strategy._target_ == "theirs.Own"
