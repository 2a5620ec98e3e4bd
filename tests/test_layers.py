"""The house: imports point downwards, and frameworks stay in their rooms. Read off the syntax trees."""

from fnmatch import fnmatch

from support.house import Module, circles, class_names, modules, positional_records

# From the ground up. A module may import its own room, those on floors below, and the neighbours that are named.
FLOORS = [
    {"core"},
    {"config", "process"},
    {"model", "optim", "tokenizer"},
    {"data", "volatility", "coordination", "tasks", "traces"},
    {"training", "strategy", "codec", "energy"},
    {"federation"},
    {"flower", "report"},
    {"runtime"},
    {"node"},
    {"experiment"},
    {"run", "prepare", "sample", "evaluate", "fidelity", "compare", "watch", "flower_config", "bench", "flower_app"}
    | {"notebook"},
]
NEIGHBOURS = {
    ("optim", "model"),  # parameter groups are those of a model
    ("volatility", "traces"),  # windows are found in signals
    ("training", "strategy"),  # a checkpoint holds a ServerState
    ("training", "codec"),  # a client encodes its update
}
# A process that composes a configuration by itself is a command, wherever it lies.
COMMANDS = {"node.__main__", "node.trainer"}
CONFINED = {
    "hydra": {"config", "run"},
    "flwr": {"flower", "runtime", "node", "flower_app"},
    "ray": {"runtime"},
    "wandb": {"report"},
    "tensorboard": {"report"},
    "trackio": {"report"},
    "redis": {"coordination"},
    "dp_accounting": {"strategy"},
}
NO_TORCH = {
    "core",
    "config",
    "process",
    "volatility",
    "traces",
    "coordination",
    "data",
    "tokenizer",
    "report",
    "notebook",
}
TENSORS = {"core.tensors"}


def floor(room: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def height(module: Module) -> int:
    return len(FLOORS) - 1 if module.name in COMMANDS else floor(module.room)


def wrong_imports(wrong: list[tuple[Module, str]]) -> list[str]:
    return [f"{module.path} imports {name}" for module, name in wrong]


def test_every_room_has_a_floor() -> None:
    assert {module.room for module in modules().values()} == set().union(*FLOORS)


def test_few_modules_lie_directly_in_the_package() -> None:
    assert len([module for module in modules().values() if len(module.path.parts) == 1]) <= 10


def test_imports_point_downwards() -> None:
    wrong = [
        (module, name)
        for module in modules().values()
        for name in module.imports
        if name.startswith("fednano.")
        and (other := name.split(".")[1]) != module.room
        and (module.room, other) not in NEIGHBOURS
        and floor(other) >= height(module)
    ]
    assert wrong_imports(wrong) == []


def test_no_modules_import_each_other() -> None:
    assert circles() == []


def test_runtimes_know_nothing_of_each_other() -> None:
    engines = {"runtime.virtual", "runtime.centralized", "runtime.ray", "runtime.deployment"}

    def engine(name: str) -> str | None:
        return next((e for e in engines if f"{name}.".startswith(f"{e}.")), None)

    wrong = [
        (module, name)
        for module in modules().values()
        if (own := engine(module.name))
        for name in module.imports
        if engine(name.removeprefix("fednano.")) not in (None, own)
    ]
    assert wrong_imports(wrong) == []


def test_frameworks_stay_in_their_rooms() -> None:
    wrong = [
        (module, name)
        for module in modules().values()
        for name in module.imports
        for framework, rooms in CONFINED.items()
        if name.split(".")[0] == framework and module.room not in rooms
    ]
    assert wrong_imports(wrong) == []


def test_one_module_speaks_to_redis() -> None:
    speakers = {m.name for m in modules().values() for name in m.imports if name.split(".")[0] == "redis"}
    assert speakers == {"coordination.redis_link"}


def test_rooms_without_torch() -> None:
    wrong = [
        (module, name)
        for module in modules().values()
        for name in module.imports
        if name.split(".")[0] == "torch" and module.room in NO_TORCH and module.name not in TENSORS
    ]
    assert wrong_imports(wrong) == []


def test_only_the_clock_waits_and_stamps() -> None:
    wrong = [
        (module, name)
        for module in modules().values()
        for name in module.imports
        if name.split(".")[0] in ("time", "sched") and module.name != "core.clock"
    ]
    assert wrong_imports(wrong) == []


def test_records_of_many_fields_are_made_by_name() -> None:
    assert positional_records() == []


def test_a_class_has_its_name_alone() -> None:
    assert {name: where for name, where in class_names().items() if len(where) > 1} == {}


def test_files_stay_near_three_hundred_lines() -> None:
    assert [str(m.path) for m in modules().values() if m.lines > 350 and not fnmatch(str(m.path), "bench/*")] == []
