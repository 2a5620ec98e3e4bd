"""The house: imports point downwards, and frameworks stay in their rooms. Read off the syntax trees."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "fednano"

# From the ground up. A module may import its own room and those below its floor, and the neighbours that are named.
FLOORS = [
    {"clock", "events", "tape", "marks", "tensors", "randomness", "ranks", "checks", "interrupts"},
    {"model", "optim", "tokenizer", "codec"},
    {"training", "strategy", "data", "volatility", "coordination", "tasks"},
    {"flower", "report"},
    {"runtime"},
    {"experiment", "cli", "resume", "flower_keys"},
    {"run", "prepare", "sample", "evaluate", "fidelity", "bench", "node", "serve", "flower_config"},
]
NEIGHBOURS = {
    ("training", "data"),
    ("training", "strategy"),  # a checkpoint holds a ServerState
    ("training", "coordination"),
    ("optim", "model"),  # parameter groups are those of a model
    ("experiment", "cli"),
    ("resume", "cli"),
    ("tape", "events"),
    ("tape", "clock"),
    ("marks", "clock"),
}
CONFINED = {
    "hydra": {"run", "experiment", "cli", "prepare", "sample"},
    "flwr": {"flower", "runtime"},
    "ray": {"runtime"},
    "wandb": {"report"},
    "redis": {"coordination"},
}
NO_TORCH = {"clock", "events", "tape", "marks", "volatility", "coordination", "data", "tokenizer", "report"}


def modules() -> Iterator[tuple[str, Path, list[str]]]:
    """(room, file, everything imported) of each module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        imported = []
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported += [f"{node.module}.{alias.name}" for alias in node.names]
        yield room, path, imported


def floor(room: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def test_every_module_has_a_floor() -> None:
    assert {room for room, _, _ in modules()} <= set().union(*FLOORS)


def test_imports_point_downwards() -> None:
    wrong = []
    for room, path, imported in modules():
        for name in imported:
            if not name.startswith("fednano."):
                continue
            other = name.split(".")[1]
            if other == room or (room, other) in NEIGHBOURS:
                continue
            if floor(other) >= floor(room):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert wrong == []


def test_frameworks_stay_in_their_rooms() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for room, path, imported in modules()
        for name in imported
        for framework, rooms in CONFINED.items()
        if name.split(".")[0] == framework and room not in rooms
    ]
    assert wrong == []


def test_one_module_speaks_to_redis() -> None:
    speakers = {path.stem for _, path, imported in modules() for name in imported if name.split(".")[0] == "redis"}
    assert speakers == {"redis_link"}


def test_rooms_without_torch() -> None:
    wrong = [
        str(path.relative_to(PACKAGE))
        for room, path, imported in modules()
        for name in imported
        if name.split(".")[0] == "torch" and room in NO_TORCH
    ]
    assert wrong == []


def test_only_the_clock_waits_and_stamps() -> None:
    wrong = [
        str(path.relative_to(PACKAGE))
        for room, path, imported in modules()
        for name in imported
        if name.split(".")[0] in ("time", "sched") and room != "clock"
    ]
    assert wrong == []


def test_the_readme_has_a_line_for_every_file() -> None:
    """By its path, or beside another of its folder; `node/` and `bench/` have one line each."""
    table = (PACKAGE.parent / "README.md").read_text(encoding="utf-8").partition("## Every file")[2]
    told: set[str] = set()
    for line in table.splitlines():
        folder = ""
        for name in re.findall(r"`([\w/.]+)`", line.split(" | ")[0]):
            folder = f"{name.rpartition('/')[0]}/" if "/" in name else folder
            told.add(name if "/" in name else folder + name)
    paths = {str(path.relative_to(PACKAGE)) for _, path, _ in modules()}
    named = {path for path in paths if not path.startswith(("node/", "bench/"))}
    assert {path for path in named if not path.endswith(("__init__.py", "__main__.py"))} <= told
