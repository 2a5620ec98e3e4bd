"""The version of flwr that was tested, the names of it that are replaced, and who may touch its insides."""

import ast
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import version

import pytest
from flwr.superlink.grid import http_grid
from flwr.supernode import start_client_internal as loop
from support.house import PACKAGE, modules

from fednano.flower.compat import TESTED_VERSION, live_grid, patch, superlink_process, supernode

COMPAT = "flower.compat"
PUBLIC = ("flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy")
ALLOWED = {
    "flwr.serverapp.strategy",
    *(f"{module}.{name}" for module in PUBLIC for name in importlib.import_module(module).__all__),
    "flwr.simulation.run_simulation",
}


def test_flwr_is_the_version_that_was_tested() -> None:
    assert version("flwr") == TESTED_VERSION, (
        f"flwr must be {TESTED_VERSION}, got {version('flwr')}; read fednano/flower/compat beside Flower's sources, "
        "run the tests that name flwr, then raise TESTED_VERSION there"
    )


def test_a_checkout_installs_the_version_that_was_tested() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    app = tomllib.loads((PACKAGE.parent / "app" / "pyproject.toml").read_text(encoding="utf-8"))
    major, minor, _ = TESTED_VERSION.split(".")
    bounds = f">={major}.{minor},<{major}.{int(minor) + 1}"
    assert f"flwr=={TESTED_VERSION}" in project["tool"]["uv"]["constraint-dependencies"]
    assert f"flwr{bounds}" in project["project"]["dependencies"]
    assert project["project"]["optional-dependencies"]["simulation"] == [f"flwr[simulation]{bounds}"]
    assert app["project"]["dependencies"] == [f"flwr{bounds}"]


def test_a_name_that_is_gone_says_what_to_install() -> None:
    wanted = re.escape(f"start_client_internal has no nothing; install flwr {TESTED_VERSION}")
    with pytest.raises(RuntimeError, match=wanted):
        patch(loop, "nothing", None)


def test_the_loop_of_a_supernode_sleeps_where_it_is_replaced() -> None:
    assert re.findall(r"\btime\.\w+\([^)]*\)", inspect.getsource(loop)) == [
        f"time.sleep({supernode.LOOK_S:g})",
        "time.sleep(0.5)",
        "time.sleep(0.5)",
    ]


def test_a_supernode_starts_its_server_where_it_is_replaced() -> None:
    assert "_start_supernode_http_api(config, state_factory)" in inspect.getsource(supernode.COMMAND)


def test_a_superlink_starts_its_server_where_it_is_replaced() -> None:
    assert "uvicorn.run(\n        app=" in inspect.getsource(superlink_process.COMMAND)


def test_the_stages_of_a_message_are_logged() -> None:
    logged = re.findall(r'INFO,\s*"(\w+)[: ]', inspect.getsource(loop))
    assert set(supernode.STAGES) <= set(logged)
    assert supernode.stage_of("Receiving: train message (ID: 1)") == "receiving"
    assert supernode.stage_of("Starting") is None


def test_what_waits_for_whole_replies_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    flowers = http_grid.pull_objects
    monkeypatch.setattr(http_grid, "pull_objects", flowers)  # to be restored
    live_grid.wait_briefly()
    inspect.signature(flowers).bind([], lambda _: b"", **http_grid.pull_objects.keywords)
    assert "pull_objects(\n" in inspect.getsource(http_grid.HttpGrid.pull_messages)


def test_no_other_module_touches_the_insides_of_flwr() -> None:
    found = {
        str(module.path): uses
        for name, module in modules().items()
        if not f"{name}.".startswith(f"{COMPAT}.") and (uses := list(intrusions(module.tree)))
    }
    assert found == {}


@pytest.mark.parametrize(
    "code",
    [
        "import flwr",
        "import flwr.supercore.run",
        "from flwr.supercore.run import Run",
        "from flwr.simulation import run_simulation_process",
        "def late(): from flwr.app.message import make_message",
        "importlib.import_module('flwr.supernode.cli.flower_supernode')",
        "from flwr.app import Message\nMessage.content = None",
        "from flwr.app import Message as M\nsetattr(M, 'content', None)",
        "from flwr.app import Message\nvars(Message)['content'] = None",
        "from flwr.app import Message\ndef f(m): m.metadata.__dict__['_message_id'] = '1'",
        "from flwr.app import Message\ndef f(m): vars(m).update(_content=None)",
        "from flwr.serverapp import Grid\ndef f(self): self._grid._runtime_client.close()",
        "from fednano.flower.compat import superlink_process\nsuperlink_process.COMMAND.uvicorn = None",
    ],
)
def test_a_touch_is_noticed(code: str) -> None:
    assert list(intrusions(ast.parse(code)))


def test_what_is_public_is_no_touch() -> None:
    code = "from flwr.app import Message\nfrom flwr.serverapp import Grid\nfrom flwr.simulation import run_simulation\n"
    own = "class Ours(Grid):\n    def __init__(self, grid):\n        self._grid = grid\n        grid.ttl = 1.0\n"
    assert not list(intrusions(ast.parse(code + own)))


def intrusions(tree: ast.Module) -> Iterator[str]:
    """What a module does that only `flower/compat` may: `line: code` each.

    It names a part of flwr that is not public, or has names of flwr and sets attributes of them, writes into a
    `__dict__`, or takes an underscored attribute of something other than itself.
    """
    names = dict(_flower_names(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Import() | ast.ImportFrom():
                touched = any(name.split(".")[0] == "flwr" and name not in ALLOWED for name in _imported(node))
            case ast.Constant(value=str(text)):
                touched = bool(re.fullmatch(r"flwr(\.\w+)+", text)) and text not in ALLOWED
            case ast.Attribute(attr=name, value=owner) if names and name != "__dict__":
                own = isinstance(owner, ast.Name) and owner.id in ("self", "cls")
                touched = name.startswith("_") and not name.startswith("__") and not own
                touched |= isinstance(node.ctx, ast.Store | ast.Del) and _root(owner) in names
            case ast.Subscript(value=owner, ctx=ast.Store() | ast.Del()) if names:
                touched = _is_dict_of(owner)
            case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[target, *_]) if names:
                touched = _root(target) in names
            case ast.Call(func=ast.Attribute(attr="update" | "pop" | "setdefault", value=owner)) if names:
                touched = _is_dict_of(owner)
            case _:
                touched = False
        if touched:
            yield f"{node.lineno}: {ast.unparse(node)}"


def _flower_names(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What names of flwr, or of what gives access to its insides, are called in a module, and their full names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias, name in zip(node.names, _imported(node), strict=True):
                if name.startswith(("flwr", f"fednano.{COMPAT}")):
                    yield alias.asname or alias.name.split(".")[0], name


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    return [prefix + alias.name for alias in node.names]


def _root(node: ast.expr) -> str:
    """The name that a chain of attributes, subscripts and calls begins with."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_dict_of(node: ast.expr) -> bool:
    """Whether it is the `__dict__` of something."""
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "vars"
    return called or (isinstance(node, ast.Attribute) and node.attr == "__dict__")
