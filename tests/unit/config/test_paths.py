"""Paths in a configuration: which settings are paths, and that relative ones are made absolute."""

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from support.house import PACKAGE, modules

from fednano.config.build import build_groups
from fednano.config.compose import compose_config, conf_dir
from fednano.config.paths import PATH, UserPath, with_absolute_paths
from fednano.experiment.experiment import Experiment

NO_PATHS = {"fednano.runtime.deployment.nodes.signals.UrlSignal.path"}  # keys within a JSON document
NAMES = re.compile(r"(^|_)(path|paths|file|files|folder|dir|root|socket|certificates?|private_key)$")


def targets(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["_target_"]} if node.get("_target_", "???") != "???" else set()
        return own.union(*(targets(child) for child in node.values()))
    return set().union(*map(targets, node)) if isinstance(node, list) else set()


def test_every_setting_named_like_a_path_is_marked_as_one() -> None:
    found = {target for file in conf_dir().rglob("*.yaml") for target in targets(yaml.safe_load(file.read_text()))}
    named, marked = set(), set()
    for target in found:
        module, _, name = target.rpartition(".")
        cls = getattr(importlib.import_module(module), name)
        hints = get_type_hints(cls, include_extras=True)
        for key in inspect.signature(cls).parameters:
            if NAMES.search(key):
                named.add(f"{target}.{key}")
            if PATH in str(hints.get(key)):
                marked.add(f"{target}.{key}")
    assert len(marked) > 8
    assert named - NO_PATHS == marked


def test_every_setting_that_is_opened_as_a_path_is_marked_as_one() -> None:
    """Code that says Path(self.KEY) in a class takes KEY for a path."""
    opened, marked = set(), set()
    for module in modules().values():
        for node in ast.walk(ast.parse((PACKAGE / module.path).read_text())):
            if isinstance(node, ast.ClassDef):
                written = ast.unparse(node)
                name = f"{module.name}.{node.name}"
                opened |= {f"{name}.{key}" for key in re.findall(r"\bPath\(self\.(\w+)\)", written)}
                marked |= {f"{name}.{key}" for key in re.findall(r"^    (\w+): UserPath", written, re.MULTILINE)}
    assert marked
    assert opened - marked <= {"coordination.redis_link.Address.ca_file"}, "which Coordination.ca_file fills in"


class Own:
    """A class of the user's own, which marks the arguments of its constructor."""

    def __init__(
        self, files: list[UserPath] | dict[str, UserPath], plain: str, path: Path, note: UserPath = ""
    ) -> None:
        self.files, self.plain, self.path, self.note = files, plain, path, note


def test_paths_of_ones_own_class_are_made_absolute() -> None:
    node = {"_target_": f"{__name__}.Own", "plain": "a", "path": "b", "note": ""}
    with_list = with_absolute_paths([{"parts": {**node, "files": ["x", "/y", "~/z", "package:w"]}}], Path("/base"))
    assert with_list == [{"parts": {**node, "path": "/base/b", "files": ["/base/x", "/y", "~/z", "package:w"]}}]
    assert with_absolute_paths({**node, "files": {"k": "x"}}, Path("/base"))["files"] == {"k": "/base/x"}
    assert with_absolute_paths({"_target_": "no.Such", "path": "x"}, Path("/base"))["path"] == "x"


def test_a_run_records_absolute_paths_seen_from_where_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text_folder: Path
) -> None:
    (tmp_path / "texts").symlink_to(text_folder)
    (tmp_path / "co2.csv").write_text("t,x\n0,100\n1000,100\n2000,100\n")
    (tmp_path / "else").mkdir()
    carbon = ["energy=trace", "energy.carbon.file=co2.csv", "energy.carbon.on_end=hold", "energy.price=null"]
    cfg = compose_config(["data=text", "data.path=texts", "data.root=root", "volatility=none", *carbon])
    monkeypatch.chdir(tmp_path / "else")
    experiment = Experiment(cfg, tmp_path)
    config = experiment.resolved(cfg)
    assert (config["data"]["path"], config["data"]["root"]) == (f"{tmp_path}/texts", f"{tmp_path}/root")
    assert config["energy"]["carbon"]["file"] == f"{tmp_path}/co2.csv"
    assert experiment.groups.data.root == f"{tmp_path}/root"  # type: ignore[attr-defined]
    assert build_groups(cfg, ["data"])["data"].path == f"{tmp_path}/else/texts", "else from the current folder"
