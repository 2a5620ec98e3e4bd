"""Flower's SuperLink from inside its process: the command and the web server that it starts (uvicorn 0.49.0)."""

import importlib
from collections.abc import Callable
from typing import Any

from fednano.flower.compat import patch

COMMAND = importlib.import_module("flwr.superlink.cli.flower_superlink")  # a function of that name hides the module


def serve_through(wrap: Callable[[Any], Any]) -> None:
    """Make the command serve `wrap(app)` instead of its ASGI application `app`."""
    run = COMMAND.uvicorn.run
    patch(COMMAND.uvicorn, "run", lambda app, **settings: run(wrap(app), **settings))


def run_superlink() -> None:
    """Run Flower's own command, which reads the arguments of this process."""
    COMMAND.flower_superlink()
