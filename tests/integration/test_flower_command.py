"""Flower's own command: its keys, its connections, and a run on the nodes and the simulation that it brings."""

import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.common.config import fuse_dicts, parse_config_args
from flwr.supercore.run import Run
from flwr.superlink.grid.inmemory_grid import InMemoryGrid

from fednano import flower_config
from fednano.config.compose import compose_config
from fednano.coordination.memory import MemoryStore
from fednano.core.claim import CLAIM
from fednano.core.progress import Silent
from fednano.experiment.experiment import Experiment
from fednano.flower.compat.messages import adopt_identity, identity_kept
from fednano.flower.compat.simulation import is_simulated
from fednano.flower.packed import payload_bytes
from fednano.flower_app import client_app as entry
from fednano.flower_app import run_config as flower_keys
from fednano.flower_app import server_app as serve
from fednano.flower_app.hosted_simulation import HostedSimulation, StagedGrid
from fednano.flower_app.run_config import KEYS, hydra_overrides
from fednano.runtime.deployment.superlink import app_folder
from fednano.runtime.ray.grid import WrappedGrid
from fednano.runtime.ray.simulation import Simulation
from fednano.runtime.ray.stage import RECORD, Stage
from fednano.runtime.recipe import BUILD, Recipe

Config = dict[str, Any]


@pytest.fixture
def defaults() -> Config:
    project = tomllib.loads((app_folder() / "pyproject.toml").read_text(encoding="utf-8"))
    config: Config = project["tool"]["flwr"]["app"]["config"]
    return config


def given(defaults: Config, *run_config: str) -> Config:
    """The run configuration that Flower's own functions make of `--run-config` options for a ServerApp."""
    return fuse_dicts(defaults, parse_config_args(list(run_config)))


def test_the_app_names_each_key_with_its_default(defaults: Config) -> None:
    internal = {"folder": "", "control": "", "board": "", "resume": False}
    assert defaults == {**{name: key.default for name, key in KEYS.items()}, flower_keys.OVERRIDES: "", **internal}


@pytest.mark.parametrize("simulated", [True, False])
def test_defaults_are_those_of_the_configuration(defaults: Config, simulated: bool) -> None:
    before = flower_keys.SIMULATED if simulated else flower_keys.DEPLOYED
    assert hydra_overrides(defaults, simulated) == list(before)
    insisted = [f"{key.target}={key.default}" for key in KEYS.values() if not key.unset and key.target != "volatility"]
    assert compose_config(before) == compose_config([*before, *insisted])


def test_keys_reach_the_configuration(defaults: Config) -> None:
    config = given(
        defaults,
        'lr=0.0001 batch_size=4 strategy="fedavg" outer_lr=0.5 num-server-rounds=3 depth=4',
        'optim="adamw" data="text" data_path="/a b/it\'s" clients=2 seed=7',
        'overrides="eval_every=1 codec=fp32 rounds=5"',
    )
    cfg = compose_config(hydra_overrides(config, simulated=True))
    assert (cfg.optim.lr, cfg.batch_size, cfg.strategy.name, cfg.strategy.outer.lr) == (0.0001, 4, "fedavg", 0.5)
    assert (cfg.model.depth, cfg.data.path, cfg.clients, cfg.seed) == (4, "/a b/it's", 2, 7)
    assert (cfg.eval_every, cfg.rounds) == (1, 5)
    assert compose_config(hydra_overrides(given(defaults, "lr=0.01"), True)).optim.matrix_lr == 0.01
    assert compose_config(hydra_overrides(given(defaults, 'hardware="cuda"'), True)).runtime.client_gpus == 0.25


@pytest.mark.parametrize(
    ("run_config", "words"),
    [
        ("batch_size=true", "batch_size must be a whole number, got true"),
        ('lr="high"', "lr must be a number, got high"),
        ("local_epochs=3", "local_epochs must be 1, got 3; use local_steps"),
        ('strategy="fedavg seed=3"', "strategy must be letters, digits and _, got fedavg seed=3"),
        ('overrides="name=\'x"', "overrides=.*close each quote"),
        ('strategy="fedwhat"', "strategy=fedwhat does not exist; use one of"),
        ('overrides="resume=there"', "resume must be null with flwr run, got there; use python -m fednano.run"),
        ('overrides="runtime=virtual"', "overrides must not set runtime, got runtime=virtual"),
        ("batch_size=-1", "batch_size must be >= 1, got -1"),
        ('volatility="markov"', "volatility must be none with runtime=simulation, .* got markov"),
    ],
)
def test_bad_values_are_refused_with_their_key(defaults: Config, tiny: list[str], run_config: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _, cfg = serve.composed(hydra_overrides(given(defaults, run_config), simulated=True))
        cfg.data = compose_config(tiny).data
        experiment = Experiment(cfg)
        experiment.parts(experiment.prepare(Silent()), MemoryStore())


def test_connections_are_added_below_what_is_there(tmp_path: Path, command: Any) -> None:
    path = tmp_path / "home" / "config.toml"
    path.parent.mkdir()
    own = '# mine\n[superlink]\ndefault = "lab" # the lab\'s\n[superlink.lab]\naddress = "HOST:1"\n'
    path.write_text(own + '[superlink.local-deployment]\naddress = "127.0.0.1:9"\n')
    before = path.read_text()
    assert command("flower_config", "--help", cwd=tmp_path, FLWR_HOME=str(path.parent)).returncode == 0
    assert path.read_text() == before
    done = command("flower_config", cwd=tmp_path, FLWR_HOME=str(path.parent))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"local-simulation: written to {path}",
        f"local-simulation-gpu: written to {path}",
        f"local-deployment: is in {path} with other values, which stay",
    ]
    written = path.read_text()
    assert written.startswith(before)
    assert tomllib.loads(written)["superlink"]["default"] == "lab"
    again = flower_config.add_connections(path)
    assert path.read_text() == written
    assert [line.split(":")[1] for line in again] == [f" is in {path}"] * 2 + [
        f" is in {path} with other values, which stay"
    ]


def test_flower_reads_the_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.cli.flower_config import read_superlink_connection

    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "new"))
    flower_config.add_connections(flower_config.config_file())
    simulation = read_superlink_connection("local-simulation-gpu")
    assert simulation.options and simulation.options.num_supernodes == KEYS["clients"].default
    assert simulation.options.backend and simulation.options.backend.client_resources
    assert simulation.options.backend.client_resources.num_gpus == 0.25
    assert read_superlink_connection("local-deployment").insecure


@pytest.mark.parametrize("text", ["[superlink\n", "superlink = {lab = {address = 'HOST:1'}}\n", "superlink = 3\n"])
def test_files_that_cannot_be_added_to_are_left(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=str(path)):
        flower_config.add_connections(path)
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


class Pushed(WrappedGrid):
    """Records pushed messages; no node answers."""

    def __init__(self) -> None:
        self.pushed: list[Message] = []

    @property
    def run(self) -> Run:
        return Run.create_empty(1)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self.pushed += messages
        return []


@pytest.fixture
def task() -> Iterable[Message]:
    with identity_kept():
        adopt_identity()
        yield Message(RecordDict(), 2, "train")


def context(**node_config: str | int) -> Context:
    return Context(1, 2, node_config, RecordDict(), {})


def test_a_task_carries_its_stage_to_the_simulation(task: Message, tmp_path: Path) -> None:
    stage = Stage(Recipe("module.build", "seed: 1\n"), 2, 3.5, tmp_path)
    grid = Pushed()
    StagedGrid(grid, stage).push_messages([task])
    assert Stage.take(grid.pushed[0]) == stage
    assert RECORD not in grid.pushed[0].content
    assert payload_bytes(task.content) == 0


def test_the_end_of_a_stage_passes_over_what_a_file_system_left(tmp_path: Path) -> None:
    stage = Stage(Recipe("module.build", ""), 1, 0.0, tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as worker:
        (tmp_path / "workers").mkdir()
        for name in (".nfs0001", ".DS_Store", str(worker.pid)):
            (tmp_path / "workers" / name).touch()
        stage.clear()
        assert worker.wait() == -signal.SIGKILL


def test_the_client_app_goes_to_the_trainer_or_trains(task: Message, tmp_path: Path) -> None:
    assert entry.app(task, context(name="client_0", socket=str(tmp_path / "none"))).error.reason.startswith(
        "the trainer of client_0 failed"
    )
    with pytest.raises(ValueError, match="start the node by python"):
        entry.app(task, context())
    # What is built is what the stage holds: its answer is no trainer.
    Stage(Recipe(BUILD, "name: without the rest"), 1, 0.0, tmp_path).attach(task)
    with pytest.raises(ValueError, match=r"^seed is not set; add \+seed=VALUE"):
        entry.app(task, context())


def test_a_message_names_neither_a_function_nor_the_modules_of_a_configuration(task: Message, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    Stage(Recipe("os.system", f"touch {touched}"), 1, 0.0, tmp_path).attach(task)
    with pytest.raises(ValueError, match=r"must name fednano\.experiment\.experiment\.rebuilt, got os\.system"):
        entry.app(task, context())
    assert not touched.exists()
    Stage(Recipe(BUILD, "codec: {_target_: antigravity.Codec}"), 2, 0.0, tmp_path).attach(task)
    with pytest.raises(ValueError, match=r"codec\._target_ must be a class of fednano .* got antigravity\.Codec"):
        entry.app(task, context())
    assert "antigravity" not in sys.modules


def test_run_config_allows_no_module(tmp_path: Path) -> None:
    conf = tmp_path / "strategy"
    conf.mkdir()
    (conf / "theirs.yaml").write_text("_target_: theirs.Strategy\nname: theirs\n")
    _, cfg = serve.composed(
        [f"hydra.searchpath=['file://{tmp_path}']", "strategy=theirs", f"hydra.run.dir={tmp_path}/run"]
    )
    with pytest.raises(ValueError, match=r"strategy\._target_ must be a class of fednano or of an allowed module"):
        Experiment(cfg)
    with pytest.raises(ValueError, match=r"must name folders or allowed packages, got pkg://antigravity;"):
        serve.composed(["hydra.searchpath=['pkg://antigravity']"])
    assert "antigravity" not in sys.modules


def test_the_client_app_imports_no_torch() -> None:
    code = "import sys, fednano.flower_app.client_app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Nodes(Pushed):
    """Has two nodes."""

    def get_node_ids(self) -> Iterable[int]:
        return [2, 3]


@pytest.mark.parametrize("clients", [2, 3])
def test_a_simulation_of_too_few_nodes_is_refused(tiny: list[str], clients: int) -> None:
    overrides = [override for override in tiny if not override.startswith("volatility.")]
    experiment = Experiment(compose_config([*overrides, *flower_keys.SIMULATED, f"clients={clients}"]))
    parts = experiment.parts(experiment.prepare(Silent()), MemoryStore())
    assert isinstance(experiment.runtime, Simulation)
    hosted = HostedSimulation(experiment.runtime, Nodes())
    if clients == 2:
        hosted.check(parts)
        return
    with pytest.raises(ValueError, match=r"clients must be <= 2, .* got 3; .*--federation-config 'num-supernodes=3'"):
        hosted.check(parts)


def test_a_run_folder_that_is_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"hydra.run.dir={tmp_path} exists already"):
        serve.composed([f"hydra.run.dir={tmp_path}"])


def test_two_runs_of_one_second_get_a_folder_each(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    folder, _ = serve.composed([f"hydra.run.dir={tmp_path}/${{now:x}}"])
    assert folder == tmp_path / "x"
    with serve._claimed(folder) as first, serve._claimed(folder) as second:
        assert (first.name, second.name) == ("x_1", "x_2")
        assert (first / CLAIM).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["x"], "nothing was written into the others"


def test_nothing_is_written_for_a_bad_value(defaults: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"model\.depth must be >= 1, got 0"):
        serve.begin(InMemoryGrid.__new__(InMemoryGrid), given(defaults, "depth=0"))
    monkeypatch.delenv("FEDNANO_REDIS_URL", raising=False)
    with pytest.raises(ValueError, match="FEDNANO_REDIS_URL"):
        serve.begin(Pushed(), given(defaults, "clients=2"))
    assert list(tmp_path.iterdir()) == []


def test_a_simulation_is_known_by_its_grid() -> None:
    assert is_simulated(InMemoryGrid.__new__(InMemoryGrid))
    assert not is_simulated(Pushed())
