"""A small real corpus: English text that every Python holds."""

import inspect
import logging
import subprocess
import textwrap
import unittest.case
from pathlib import Path


def write_docstrings(folder: Path) -> None:
    """Sources of English text, a folder each: the docstrings of some modules of the standard library."""
    for module in (unittest.case, logging, textwrap, subprocess, inspect):
        documents = [inspect.getdoc(member) or "" for _, member in inspect.getmembers(module)]
        methods = [
            inspect.getdoc(method) or ""
            for _, cls in inspect.getmembers(module, inspect.isclass)
            for _, method in inspect.getmembers(cls, inspect.isroutine)
        ]
        source = folder / module.__name__.split(".")[0]
        source.mkdir(exist_ok=True)
        for i, text in enumerate(sorted({t for t in documents + methods if len(t) > 80})):
            (source / f"{i:04d}.txt").write_text(text, encoding="utf-8")
