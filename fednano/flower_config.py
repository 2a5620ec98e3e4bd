"""Names fednano's connections in the configuration of Flower's own command: python -m fednano.flower_config.

What stands in the file stays as it is, comments too: what is missing is written below it.
"""

import os
import sys
import tomllib
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from fednano.config.errors import guarded

# The number of nodes is that of the app's clients. A share of a device says how many clients train on it at once.
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
    """Where Flower's command looks."""
    return Path(os.environ.get("FLWR_HOME") or Path.home() / ".flwr") / "config.toml"


def add_connections(path: Path) -> list[str]:
    """Write the connections that `path` does not have; a line about each.

    Raises ValueError where the file cannot be read, or tables cannot be added to it.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
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
        raise ValueError(f"superlink={found} of {path} is no table; write [superlink.NAME]")
    return found


def _told(name: str, present: dict[str, Any], path: Path) -> str:
    if name not in present:
        return f"{name}: written to {path}"
    if present[name] == tomllib.loads(CONNECTIONS[name]):
        return f"{name}: is in {path}"
    return f"{name}: is in {path} with other values, which stay"


def main() -> int:
    """The command; its exit code."""
    for line in add_connections(config_file()):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
