"""RELIABILITY.md: each promise names a test that exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINES = (ROOT / "RELIABILITY.md").read_text(encoding="utf-8").split("\n- ")[1:]


@pytest.mark.parametrize("promise", LINES, ids=lambda promise: promise.split("\n")[0])
def test_a_promise_names_its_test(promise: str) -> None:
    found = re.search(r"\n  `(tests/\S+\.py)::(\w+)`", promise)
    assert found, "a promise without a test"
    tree = ast.parse((ROOT / found[1]).read_text(encoding="utf-8"))
    assert found[2] in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
