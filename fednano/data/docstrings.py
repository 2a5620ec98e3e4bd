"""Extraction of long docstrings from Python source with `ast`: nothing is imported or run."""

import ast
import gc
import inspect
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TRIPLE_QUOTED = re.compile(rb'("""|\'\'\')(.*?)\1', re.DOTALL)
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class FileJob:
    """One file. Docstrings under `min_chars` are skipped, and the file if the others are under `min_share` of it."""

    path: Path
    min_chars: int
    min_share: float


def docstrings_of_file(job: FileJob) -> list[str]:
    """The docstrings in a file, without their indentation; none if the file is not valid Python."""
    source = job.path.read_bytes()
    # Parsing takes nearly all of the time, most of it for files with little documentation.
    long = sum(len(match[2]) for match in _TRIPLE_QUOTED.finditer(source) if len(match[2]) >= job.min_chars)
    if long == 0 or long < job.min_share * len(source):
        return []
    # A syntax tree has no cycles, yet the garbage collector would walk it again and again while it grows.
    collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        found = [_clean(text) for text in _strings(tree)]
    except (SyntaxError, ValueError, RecursionError):
        return []
    finally:
        if collecting:
            gc.enable()
    return [text for text in found if len(text) >= job.min_chars]


def _clean(text: str) -> str:
    return inspect.cleandoc(text).strip().encode("utf-8", "ignore").decode()


def _strings(tree: ast.Module) -> Iterator[str]:
    """Docstrings of the module, its classes and functions, and strings that calls attach as documentation."""
    statements: list[ast.AST] = [tree]
    while statements:
        node = statements.pop()
        if isinstance(node, _DOCUMENTED):
            docstring = ast.get_docstring(node, clean=False)
            if docstring is not None:
                yield docstring
        elif isinstance(node, ast.Expr | ast.Assign) and isinstance(node.value, ast.Call):
            yield from _attached(node.value)
        for block in ("handlers", "finalbody", "orelse", "body"):
            statements.extend(reversed(getattr(node, block, ())))


def _attached(call: ast.Call) -> Iterator[str]:
    """Strings in calls such as numpy's `add_newdoc` and torch's `add_docstr`, which document compiled code."""
    function = call.func
    name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    if "doc" in name.lower():
        for node in ast.walk(call):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
