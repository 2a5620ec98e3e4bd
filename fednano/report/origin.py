"""Where a run came from: when and on which machine it began, the commit of fednano, and the command that repeats it."""

import json
import shlex
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import fednano
from fednano.core.clock import date
from fednano.core.files import read_json, write_atomically

ORIGIN = "origin.json"
HYDRA = ".hydra"  # the folder of Hydra's own files in a run folder
GIT_S = 5.0  # for Git to answer


def record_origin(folder: Path) -> None:
    """Write `origin.json` into the folder of a run that begins; of one that is resumed, note when and where."""
    now = {"at": date(), "host": socket.gethostname()}
    held = origin_of(folder)
    if "started" in held:
        told = {**held, "resumed": [*held.get("resumed", ()), now]}
    else:
        told = {"started": now, "commit": commit(), "command": command_of(folder)}
    write_atomically(folder / ORIGIN, json.dumps(told, indent=2) + "\n")


def origin_of(folder: Path) -> dict[str, Any]:
    """What `origin.json` holds; of a run without one, only the command, as far as Hydra has recorded it."""
    path = folder / ORIGIN
    return read_json(path, "remove it") if path.exists() else {"command": command_of(folder)}


def commit() -> str | None:
    """The commit of the checkout that fednano runs from, with "+" if files were changed since; None without one."""
    package = Path(fednano.__file__).resolve().parent
    top = _git(package, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != package.parent:  # installed, perhaps inside somebody's own repository
        return None
    named, changed = _git(package, "rev-parse", "HEAD"), _git(package, "status", "--porcelain", "--untracked-files=no")
    return f"{named}{'+' if changed else ''}" if named else None


def _git(folder: Path, *words: str) -> str | None:
    try:
        asked = subprocess.run(
            ["git", "-C", str(folder), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=GIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None


def command_of(folder: Path) -> str | None:
    """The command that repeats the run of a folder, from what Hydra has recorded there; None without that.

    Of a job of a sweep it is the command of that job alone.
    """
    words, node = _yaml(folder / HYDRA / "overrides.yaml"), _yaml(folder / HYDRA / "hydra.yaml")
    if not isinstance(words, list):
        return None
    hydra = node.get("hydra", {}) if isinstance(node, dict) else {}
    swept = ["hydra.mode=RUN"] if hydra.get("mode") == "MULTIRUN" else []
    return shlex.join(["python", "-m", "fednano.run", *_config_dir(hydra), *map(str, words), *swept])


def _config_dir(hydra: Mapping[str, Any]) -> Sequence[str]:
    """The words of `--config-dir`, if the run was started with it."""
    sources = (hydra.get("runtime") or {}).get("config_sources") or ()
    given = [source["path"] for source in sources if source.get("provider") == "command-line"]
    return ["--config-dir", given[0]] if given else []


def _yaml(path: Path) -> Any:
    """The contents of one of Hydra's files; None without it, or if it cannot be read as YAML."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
