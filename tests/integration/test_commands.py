"""The commands as a user types them: help, configuration, bad input, interruption, sweeps, sampling."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from support.paths import FIXTURES, REPOSITORY
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from fednano.bench.__main__ import BENCHES
from fednano.config.build import build_groups
from fednano.config.command_help import command_help
from fednano.config.compose import compose_config, conf_dir
from fednano.config.errors import ConfigError
from fednano.core.progress import Silent
from fednano.experiment.experiment import Experiment
from fednano.experiment.job import withdraw
from fednano.run import main

Command = Callable[..., subprocess.CompletedProcess[str]]


def refused(overrides: list[str]) -> str:
    """The line that refuses a configuration."""
    with pytest.raises(ValueError) as caught:
        Experiment(compose_config(overrides)).prepare(Silent())
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("rouns=3", ("rouns=3", "did you mean rounds?")),
        ("strategy.outer.lrr=3", ("strategy.outer.lrr=3", "did you mean strategy.outer.lr?")),
        ("strategy=fedav", ("strategy=fedav", "use one of async_diloco, decoupled_diloco, diloco, dp_fedavg, fedadam")),
        ("strategy/outer=adm", ("strategy/outer=adm does not exist", "use one of adam, delayed_nesterov, momentum")),
        ("strategy/outr=adam", ("strategy/outr=adam", "did you mean strategy/outer?")),
        ("strategy.outer=adam", ("strategy.outer=adam", "use strategy/outer=adam")),
        ("strategy/outer=3", ("strategy/outer must be the name of a choice, got 3", "use one of adam, delayed_n")),
        ("runtime/signal=url", ("runtime/signal=url", "must belong to a runtime whose YAML file names signal")),
        ("model=d99", ("model=d99", "model.depth=99")),
        ("model.depth=0", ("model.depth must be >= 1, got 0", "use 1 or more")),
        ("model.depth=two", ("model.depth must be a whole number, got two",)),
        ("data=text", ("data.path is not set", "add data.path=VALUE")),
        ("+strategy.foo=1", ("strategy.foo=1", "use one of outer")),
        ("+foo=1", ("foo=1", "remove it")),
        ("clients=0", ("clients must be >= 1, got 0", "use 1 or more")),
        ("clients=2.5", ("clients must be a whole number, got 2.5",)),
        ("strategy.quorum=9", ("strategy.quorum must be <= clients=4, got 9", "lower it")),
        ("tokenizer.vocab_size=100", ("tokenizer.vocab_size must be >= 261", "256 bytes + 5 special", "got 100")),
        ("hardware.device=tpu9", ("hardware.device must be a torch device, got tpu9", "use cpu")),
        ("hardware.device=meta", ("hardware.device must be a cpu, cuda or mps device, got meta",)),
        ("model.kv_groups=3", ("model.kv_groups must divide the 1 heads", "got 3", "use 1")),
        ("model.sequence_len=1", ("model.sequence_len must be >= 2, got 1", "use 2 or more")),
        ("batch_size=0", ("batch_size must be >= 1, got 0", "use 1 or more")),
        ("batch_size=1.5", ("batch_size must be a whole number or null, got 1.5",)),
        ("eval_tokens=100", ("eval_tokens must be >= model.sequence_len=256", "got 100", "use 256 or more")),
        ("packing=best", ("packing=best", "use one of best_fit, stream")),
        ("optim.schedule._target_=no.Such", ("optim.schedule._target_ must be", "got no.Such; add --allow-module no")),
        ("optim.state=mean", ("optim.state must be keep, reset or average, got mean",)),
        ("++resume=a/b", ("as resume=FOLDER, got a/b",)),
        ("sweep.metrics=[bpb]", ("sweep.metrics must be of val_bpb, ", "got bpb; use one of them")),
        ("sweep.metrics=[]", ("sweep.metrics must name at least one figure, got []",)),
        ("++sweep.x=1", ("sweep.x=1 sets a key that does not exist; use one of resume, metrics",)),
        ("name=a/b", ("name must be a valid folder name, got a/b", "use letters")),
    ],
)
def test_bad_input_is_refused_with_key_value_and_remedy(override: str, words: tuple[str, ...]) -> None:
    line = refused([override])
    assert all(word in line for word in words), line


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_here_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert refused([f"hardware.device={device}"]).endswith(
        f"hardware.device must exist on this machine, got {device} but no {device[:4].rstrip(':').upper()} device; "
        "use hardware=cpu"
    )


def test_a_device_beyond_those_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    Experiment(compose_config(["hardware.device=cuda:1"]))
    assert "hardware.device must be one of the 2 CUDA devices here, got cuda:2" in refused(["hardware.device=cuda:2"])


def test_a_buffer_without_documents_is_refused() -> None:
    line = refused(["packing=best_fit", "packing.documents=0"])
    assert line == "packing.documents must be >= 1, got 0; use, for example, 64"


def test_bad_data_is_refused(tmp_path: Path) -> None:
    root = f"data.root={tmp_path / 'root'}"
    assert "data.path must be a folder that exists, got /no/such/folder; " in refused(
        ["data=text", "data.path=/no/such/folder", root]
    )
    (tmp_path / "texts").mkdir()
    assert "data.pattern" in refused(["data=text", f"data.path={tmp_path / 'texts'}", root])
    (tmp_path / "texts" / "empty.txt").touch()
    assert "got no document with text in it" in refused(["data=text", f"data.path={tmp_path / 'texts'}", root])
    assert not list((tmp_path / "root").glob("text-*/"))


def test_a_sequence_longer_than_the_held_out_text_is_refused(tiny: list[str]) -> None:
    from fednano.coordination.memory import MemoryStore

    experiment = Experiment(compose_config([*tiny, "model.sequence_len=1000000", "eval_tokens=1000000"]))
    with pytest.raises(ValueError, match=r"model\.sequence_len=1000000 tokens, got [0-9]+; use a shorter"):
        experiment.parts(experiment.prepare(Silent()), MemoryStore())


def test_an_unreadable_override_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cannot be read as KEY=VALUE"):
        compose_config(["rounds=[3"])


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("model.depth=0", "model.depth must be >= 1, got 0; use 1 or more, such as model=d2"),
        ("model.kv_groups=5", "model.kv_groups must divide the 1 heads of depth 2, got 5; use 1"),
        ("hardware.device=foo", "hardware.device must be a torch device, got foo; use cpu, cuda or cuda:0"),
        ("eval_tokens=9", "eval_tokens must be >= model.sequence_len=256, one sequence, got 9; use 256 or more"),
    ],
)
def test_bad_input_ends_with_2_and_leaves_nothing(command: Command, tmp_path: Path, override: str, line: str) -> None:
    ended = command("run", override, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [f"fednano: {line}"]
    assert ended.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="commands are forks on Linux only")
def test_a_fork_is_what_a_new_interpreter_is(command: Command, tmp_path: Path) -> None:
    """The fixture `command` forks unless it is given variables."""
    words = ["seed=x", "hydra.run.dir=made"]
    fork, new = command("run", *words, cwd=tmp_path), command("run", *words, cwd=tmp_path, HOSTNAME="here")
    assert (fork.returncode, fork.stdout, fork.stderr) == (new.returncode, new.stdout, new.stderr)
    assert fork.stderr == "fednano: seed must be a whole number, got x; write seed=4, for example\n"


def test_a_rank_without_the_others_is_refused_and_touches_nothing(command: Command, tmp_path: Path) -> None:
    kept = tmp_path / "checkpoints" / "round_000000"
    kept.mkdir(parents=True)
    ended = command("run", "hydra.run.dir=run", cwd=tmp_path, RANK="3")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.splitlines() == [
        "fednano: LOCAL_RANK must be set, since RANK=3 is; unset RANK, or start the ranks by torchrun"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
    assert kept.is_dir()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["volatility=trace", "volatility.speedup=1e4", "rounds=200"], "volatility.on_end=repeat"),
        (
            ["volatility=intervals", "volatility.on_end=down", "rounds=500", "runtime.compute=analytic"],
            "no client is ever up after",
        ),
        (
            ["volatility=none", "energy=trace", "energy.speedup=1e5", "energy.carbon.on_end=error", "rounds=200"],
            "energy.carbon.on_end=repeat or hold",
        ),
    ],
)
def test_what_only_playing_the_run_through_shows_leaves_nothing_either(
    tiny: list[str],
    tmp_path: Path,
    overrides: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    basics = [override for override in tiny if not override.startswith(("volatility.", "rounds="))]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run", *basics, *overrides])
    assert main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert list(tmp_path.iterdir()) == []


EXPERIMENTS = conf_dir() / "experiment"


@pytest.mark.parametrize(
    "experiment",
    sorted(path.relative_to(EXPERIMENTS).with_suffix("").as_posix() for path in EXPERIMENTS.rglob("[!_]*.yaml")),
)
def test_every_experiment_file_composes_and_checks(experiment: str) -> None:
    Experiment(compose_config([f"experiment={experiment}"]))


NEED_A_PATH = (("data", "text"), ("data", "parquet"), ("tasks", "bundle"))


@pytest.mark.parametrize(
    "choice",
    sorted(
        f"{path.parent.name}={path.stem}"
        for path in conf_dir().glob("*/*.yaml")
        if not path.stem.startswith("_") and path.parent.name != "experiment"
    ),
)
def test_every_choice_is_made_of_its_class(choice: str, tmp_path: Path) -> None:
    needs = {f"{group}={name}": f"{group}.path={tmp_path}" for group, name in NEED_A_PATH}
    needs["strategy=flower"] = "strategy.wrapped._target_=flwr.serverapp.strategy.FedAvg"
    root = "evaluate" if choice.startswith(("tasks=", "protocol=")) else "config"
    cfg = compose_config([choice, *([needs[choice]] if choice in needs else [])], root)
    if choice == "hardware=cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    if choice == "hardware=cuda_ddp" and torch.cuda.device_count() != 1:
        pytest.skip("not one CUDA device here")
    if choice == "hardware=mps" and not torch.backends.mps.is_available():
        pytest.skip("no Apple GPU here")
    group = choice.partition("=")[0]
    assert build_groups(cfg, [group])[group]


def test_a_group_of_another_command_is_no_key(tmp_path: Path, command: Command) -> None:
    done = command("run", "tasks=builtin", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("fednano: tasks=builtin sets a key that does not exist; ")
    assert done.stderr.count("\n") == 1


def test_cfg_shows_without_importing_torch_or_flower(tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv = ['run', '--cfg', 'job', '--resolve', 'model=d4']\n"
        "from fednano.run import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'flwr', 'wandb'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    *configuration, modules = shown.rstrip().splitlines()
    assert modules == "[]"
    assert yaml.safe_load("\n".join(configuration))["model"]["depth"] == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["prepare", "sample", "evaluate", "node"])
def test_help_says_what_the_command_does_and_what_it_takes(name: str) -> None:
    lines = command_help(conf_dir(), name).splitlines()
    assert not lines[0].startswith("#")
    assert f"python -m fednano.{name} GROUP=CHOICE KEY=VALUE …" in lines
    group = "hardware: cpu" if name == "sample" else "data: pydocs" if name == "prepare" else "data: null"
    choices = lines[lines.index(group) + 1]
    assert ("cuda_ddp" if name == "sample" else "fineweb_edu") in choices
    assert any(line.startswith(("model_dir: ???", "superlink: ???")) for line in lines) == (name != "prepare")
    assert max(map(len, lines)) <= 80
    assert not any("_self_" in line or "override" in line for line in lines)


HELPED = ("compare", "evaluate", "fidelity", "node", "prepare", "report", "run", "sample", "watch", "volatility.solar",
          *(f"bench {name}" for name in ("", *BENCHES)))  # fmt: skip


@pytest.mark.parametrize("words", HELPED)
def test_help_fits_80_columns(command: Command, tmp_path: Path, words: str) -> None:
    ended = command(*words.split(), "--help", cwd=tmp_path)
    assert ended.returncode == 0
    assert [line for line in ended.stdout.splitlines() if len(line) > 80] == []
    assert len(ended.stdout.splitlines()) > 3


def test_help_names_groups_and_keys(command: Command, tmp_path: Path) -> None:
    ended = command("run", "--help", cwd=tmp_path)
    assert ended.returncode == 0
    assert all(
        word in ended.stdout
        for word in ("volatility: bernoulli, compose", "straggler, trace", "clients: 4", "python -m fednano.run")
    )
    assert max(map(len, ended.stdout.splitlines())) <= 80
    groups = ended.stdout.partition("Groups and choices")[2].partition("Keys and their values")[0]
    assert "experiment: attacks, churn, codecs" in groups and "model: *d2, d3," in groups
    assert not re.search(r"\b_\w", groups)  # a part that choices include is none


def test_help_explains_groups_and_keys(command: Command, tmp_path: Path) -> None:
    ended = command("run", "--help", "volatility", "strategy/outer", "budget", "volatility=spot", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert (
        "volatility=spot" in lines
        and "    markov: Random times up and down (exponential), in seconds on the" in ended.stdout
    )
    assert "volatility.notice_s: 30.0" in lines and "volatility.mean_hold_s" not in ended.stdout
    assert lines[lines.index("strategy.outer.lr: 0.7") + 1].strip().startswith("η")
    assert "budget.virtual_hours: null" in lines and "    (a number or null)" in lines
    assert list(tmp_path.iterdir()) == []


def test_help_explains_what_a_file_of_the_users_writes_out_itself(command: Command, tmp_path: Path) -> None:
    conf = tmp_path / "conf" / "strategy"
    conf.mkdir(parents=True)
    target = "outer:\n  _target_: fednano.strategy.outer.nesterov.Nesterov\n  lr: 0.9 # η\n  momentum: 0.2 # of mine\n"
    (conf / "mine.yaml").write_text(f"# Mine.\ndefaults:\n  - fedavg\n  - _self_\n\n{target}")
    ended = command("run", "--config-dir", "conf", "--help", "strategy.outer", "strategy=mine", cwd=tmp_path)
    lines = ended.stdout.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "strategy.outer.lr: 0.9",
        "strategy.outer.momentum: 0.2",
    ]
    assert sum("η" in line for line in lines) == 1 and "of mine" in ended.stdout
    whole = command("run", "--config-dir", "conf", "--help", "strategy=mine", cwd=tmp_path).stdout
    assert "mine: Mine." in whole and "strategy.outer.lr: 0.9" in whole and "strategy/outer=" not in whole


def test_help_tells_values_that_were_changed(command: Command, tmp_path: Path) -> None:
    words = ("name", "clients", "strategy.outer.lr", "hydra/launcher", "strategy.outer.lr=0.25")
    ended = command("run", "--help", *words, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    for line in ("name: quickstart", "    (a string; default unnamed)", "clients: 4", "strategy.outer.lr: 0.25"):
        assert line in ended.stdout.splitlines()
    assert "default 4" not in ended.stdout and "    slurm: SLURM, as one job array." in ended.stdout


def test_help_explains_launchers_and_sweepers_of_plug_ins(command: Command, tmp_path: Path) -> None:
    ended = command("run", "--help", "hydra/launcher", "hydra/sweeper", "hydra/sweeper=optuna", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    for word in ("basic: one job", "joblib: ", "slurm: ", "submitit_local: ", "optuna: ", "hydra.sweeper.n_trials: 20"):
        assert word in ended.stdout, word
    assert "hydra.sweeper.direction: minimize" in ended.stdout.splitlines()
    assert max(map(len, ended.stdout.splitlines())) <= 80
    whole = command("run", "--help", cwd=tmp_path).stdout
    assert "hydra/launcher: *basic, joblib, slurm" in whole and "hydra/sweeper: *basic, optuna" in whole


@pytest.mark.parametrize(
    ("word", "choice", "meaning"),
    [
        ("runtime.client_gpus", "runtime=simulation", "0.25 lets four clients share a GPU"),
        ("hydra.launcher.partition", "hydra/launcher=slurm", "as for sbatch"),
        ("hydra.launcher.n_jobs", "hydra/launcher=joblib", "-1: one per core"),
        ("strategy.dp.clip", "strategy/dp=gaussian", "the largest norm"),
        ("strategy.outer.beta1", "strategy/outer=adam", "(also yogi)"),
    ],
)
def test_help_explains_a_key_of_a_choice_that_is_not_made(
    command: Command, tmp_path: Path, word: str, choice: str, meaning: str
) -> None:
    ended = command("run", "--help", word, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    said = " ".join(ended.stdout.split())
    assert said.startswith(f"{word}: ") and meaning in said
    assert f"A key of {choice}" in said and f"add {choice} to the command line." in said


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["clint"], "clint must be a group or a key; did you mean clients?"),
        (["slurm"], "slurm must be a group or a key, got a choice of hydra/launcher; see --help hydra/launcher"),
        (
            ["strategy.outer.lrr"],
            "strategy.outer.lrr must be a key of strategy/outer=nesterov; did you mean strategy.outer.lr?",
        ),
        (["strategy.outer.cap"], "strategy.outer.cap must be a key of strategy/outer=nesterov; "),
        (["hydra.launcher.x"], "hydra.launcher.x must be a key of hydra/launcher=basic; "),
        (["strategy", "volatility=x"], "volatility=x does not exist; use one of bernoulli, compose, diurnal, "),
        (["merging", "strategy=flower"], "merging must be a group or a key; "),
        (
            ["strategy.merging", "strategy=flower"],
            "strategy.merging must belong to a choice that is made, got none of ",
        ),
    ],
)
def test_help_for_what_is_not_there_is_refused(command: Command, tmp_path: Path, words: list[str], line: str) -> None:
    ended = command("run", "--help", *words, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"fednano: {line}")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "hydra.sweep.dir=made", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", "runtime.compute=analytic"],
        ["hydra.run.dir=new/made/0"],
    ],
)
def test_what_is_refused_once_its_folder_is_made_leaves_none(tiny: list[str], tmp_path: Path, words: list[str]) -> None:
    # As where a sweeper has chosen after everything was tried.
    untried = (
        "import sys; from fednano import run; from fednano.experiment import job, preflight; "
        "preflight.check_jobs = lambda *_: None; job.chosen_late = lambda _: True; sys.exit(run.main())"
    )
    (tmp_path / "short.csv").write_text("t,x\n0,100\n1,100\n2,100\n")
    late = ["energy=trace", "energy.price=null", f"energy.carbon.file={tmp_path / 'short.csv'}"]
    here = tmp_path / "here"
    here.mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", untried, *words, *tiny, *late], cwd=here, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2, ended.stderr
    (line,) = (line for line in ended.stderr.splitlines() if "ends 3 s into the run" in line)
    assert line.startswith(("fednano: energy.carbon.file=", "fednano: job 0: energy.carbon.file="))
    assert "Traceback" not in ended.stderr
    assert here.is_dir(), "the current folder stays, even if it is empty"
    assert not (here / "made" / "0").exists()
    assert not (here / "new").exists()


@pytest.mark.parametrize("begun", [True, False])
def test_only_what_a_refused_job_wrote_itself_is_removed(tmp_path: Path, begun: bool) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "notes.txt").touch()
    held = frozenset(tmp_path.iterdir())
    (tmp_path / "logs").mkdir()
    (tmp_path / "events.jsonl").write_text("{}\n" if begun else "")
    withdraw(tmp_path, held, ".hydra", tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {".hydra", "notes.txt"} | ({"logs", "events.jsonl"} if begun else set())


def test_multirun_sample_and_report(command: Command, tiny: list[str], tmp_path: Path) -> None:
    ended = command(
        "run", "-m", "strategy=fedavg,diloco", "seed=1,2", *tiny, "rounds=1", "hydra.sweep.dir=sweep", cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    summaries = [json.loads(p.read_text()) for p in sorted((tmp_path / "sweep").glob("*/summary.json"))]
    assert [(s["strategy"], s["seed"]) for s in summaries] == [
        ("fedavg", 1),
        ("fedavg", 2),
        ("diloco", 1),
        ("diloco", 2),
    ]
    assert (tmp_path / "sweep" / "0" / ".hydra" / "overrides.yaml").exists()
    resolved = yaml.safe_load((tmp_path / "sweep" / "3" / "config.yaml").read_text())
    assert (resolved["seed"], resolved["strategy"]["name"]) == (2, "diloco")

    sampled = command("sample", "model_dir=sweep/0/model", "prompt=def f(x, y): {z}", "tokens=5", cwd=tmp_path)
    assert sampled.returncode == 0, sampled.stderr
    assert sampled.stdout.startswith("def f(x, y): {z}")

    used = command("run", *tiny, "hydra.run.dir=sweep/0", cwd=tmp_path)
    assert used.returncode == 2
    assert "must not hold a run" in used.stderr


def test_ctrl_c_ends_a_run_with_a_summary(tiny: list[str], tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fednano.run", *tiny, "rounds=300", "eval_every=300", "hydra.run.dir=stopped"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("round 3"):
            os.killpg(process.pid, signal.SIGINT)
            break
    process.communicate()
    assert process.returncode == 130
    summary = json.loads((tmp_path / "stopped" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert summary["rounds"] >= 3
    assert (tmp_path / "stopped" / "checkpoints").iterdir()


def test_a_run_says_once_how_it_read_each_trace_of_the_users_own(
    command: Command, tiny: list[str], tmp_path: Path
) -> None:
    excel, iso = FIXTURES / "hourly_excel.csv", FIXTURES / "hourly_iso.csv"
    signals = ["energy=trace", "energy.price=null", f"energy.carbon.file={excel}", "energy.carbon.on_end=repeat"]
    windows = ["volatility=trace", f"volatility.file={iso}", "volatility.threshold=1e9", "volatility.on_end=repeat"]
    own = [*(override for override in tiny if not override.startswith("volatility")), *signals, *windows]
    ended = command("run", *own, "rounds=1", "runtime.compute=analytic", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    span = "48 rows, 2024-{}-01 00:00 to 2024-{}-02 23:00, usual step 3,600 s"
    assert ended.stdout.count(f"{iso}: {span.format('01', '01')}\n") == 1
    assert ended.stdout.count(f"{excel}: {span.format('03', '03')}, read as Excel's serial days\n") == 1


def test_prepare_makes_corpus_and_tokenizer(command: Command, text_folder: Path, tmp_path: Path) -> None:
    arguments = ["data=text", f"data.path={text_folder}", "tokenizer.vocab_size=300", f"data.root={tmp_path / 'root'}"]
    ended = command("prepare", *arguments, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    (corpus,) = (tmp_path / "root").glob("text-*/")
    assert {"manifest.json", "train_00000.parquet", "validation.parquet"} <= {p.name for p in corpus.iterdir()}
    (tokenizer,) = corpus.glob("bpe-*.json")
    before = tokenizer.stat().st_mtime_ns
    assert command("prepare", *arguments, cwd=tmp_path).returncode == 0
    assert tokenizer.stat().st_mtime_ns == before


@pytest.mark.slow
def test_the_sweep_file_makes_a_command_that_runs(tiny: list[str], tmp_path: Path) -> None:
    """Like the agent of wandb, whose own functions fill in the command's macros."""
    sweep = yaml.safe_load((REPOSITORY / "sweeps" / "outer_lr.yaml").read_text())
    point = {"args": {name: {"value": spec["values"][0]} for name, spec in sweep["parameters"].items()}}
    macros = {
        **create_sweep_command_args(point),
        "env": ["/usr/bin/env"],
        "interpreter": [sys.executable],
        "program": [sweep["program"]],
    }
    line = []
    for chunk in create_sweep_command(list(sweep["command"])):
        line += macros[chunk[2:-1]] if chunk.startswith("${") else [chunk]
    assert f"strategy.outer.lr={sweep['parameters']['strategy.outer.lr']['values'][0]}" in line
    environment = {**os.environ, "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path)}
    ended = subprocess.run(
        [*line, *tiny, "rounds=1", "hydra.run.dir=point"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"{shlex.join(line)}\n{ended.stderr}"
    assert json.loads((tmp_path / "point" / "summary.json").read_text())[sweep["metric"]["name"]] > 0
    assert list((tmp_path / "point").rglob("*.wandb"))
