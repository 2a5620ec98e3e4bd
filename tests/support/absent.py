"""Packages that a child process finds to be missing, though they are installed."""

import os
from pathlib import Path

REFUSAL = """
from importlib.machinery import PathFinder

found = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in {names!r} else found(name, *rest)
"""


def without(folder: Path, *names: str) -> dict[str, str]:
    """The environment of a process in which the packages `names` cannot be found; `folder` holds what sees to it."""
    (folder / "sitecustomize.py").write_text(REFUSAL.format(names=names), encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}
