"""Connections for Flower's own command, `flwr run`: adds fednano's to its configuration file.

    python -m fednano.flower_config

What the file holds stays as it is, comments included; missing connections are appended.
"""

from fednano.core.interrupts import end_at_signals

if __name__ == "__main__":  # first, since the imports below take a while
    end_at_signals()

import argparse
import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from fednano.config.errors import guarded
from fednano.core.files import read_text

# The number of nodes must be that of the app's clients. The share of a GPU sets how many clients train on it at once.
CONNECTIONS = {
    "local-simulation": """\
address = ":local:"
options.num-supernodes = 4
options.backend.client-resources.num-cpus = 1
""",
    "local-simulation-gpu": """\
address = ":local:"
options.num-supernodes = 4
options.backend.client-resources.num-cpus = 1
options.backend.client-resources.num-gpus = 0.25
""",
    "local-deployment": """\
address = "127.0.0.1:8000"
insecure = true
""",
}


def config_file() -> Path:
    """The file that Flower's command reads."""
    return Path(os.environ.get("FLWR_HOME") or Path.home() / ".flwr") / "config.toml"


def add_connections(path: Path) -> list[str]:
    """Add the connections that `path` lacks; returns a line about each connection.

    Raises ValueError if the file cannot be read, or if tables cannot be added to it.
    """
    text = read_text(path, "repair it or move it away") if path.exists() else ""
    present = _superlink(text, path, "repair it or move it away")
    missing = [name for name in CONNECTIONS if name not in present]
    lines = [_told(name, present, path) for name in CONNECTIONS]
    if not missing:
        return lines
    added = "\n".join(f"[superlink.{name}]\n{CONNECTIONS[name]}" for name in missing)
    whole = f"{text.rstrip()}\n\n{added}" if text.strip() else added
    _superlink(whole, path, "write superlink as tables: [superlink.NAME]")
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        file.write(whole)
    Path(file.name).replace(path.resolve())
    return lines


def _superlink(text: str, path: Path, remedy: str) -> dict[str, Any]:
    try:
        found = tomllib.loads(text).get("superlink", {})
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} cannot be read as TOML with fednano's connections ({error}); {remedy}") from error
    if not isinstance(found, dict):
        raise ValueError(f"superlink in {path} must be a table, got {found}; write [superlink.NAME]")
    return found


def _told(name: str, present: dict[str, Any], path: Path) -> str:
    if name not in present:
        return f"{name}: written to {path}"
    if present[name] == tomllib.loads(CONNECTIONS[name]):
        return f"{name}: is in {path}"
    return f"{name}: is in {path} with other values, which stay"


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fednano.flower_config",
        description=f"Add fednano's connections ({', '.join(CONNECTIONS)}) to the configuration of Flower's command, "
        "so that `flwr run app CONNECTION` finds them. The file is $FLWR_HOME/config.toml, by default "
        "~/.flwr/config.toml; what it already holds stays as it is.",
    )
    parser.parse_args(arguments)
    for line in add_connections(config_file()):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
