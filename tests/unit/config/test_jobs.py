"""The jobs of a command line: what is checked is what Hydra launches, and every error is one line."""

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from fednano.config.compose import command_line, hand_over
from fednano.config.hydra.choices import without_parts
from fednano.config.hydra.options import check_options
from fednano.config.jobs import PlannedLaunch, planned

Planner = Callable[..., PlannedLaunch]


def task(cfg: DictConfig) -> None:
    """Stands for a run: it says what Hydra launched."""
    launched.append((OmegaConf.to_container(cfg, resolve=True), Path(HydraConfig.get().runtime.output_dir)))


launched: list[tuple[Any, Path]] = []


# A configuration like fednano's own, and small, since each test composes it several times; and one of the user's.
FILES = {
    "conf/config.yaml": """
        defaults:
          - data: pydocs
          - strategy: diloco
          - volatility: markov
          - _self_
          - experiment: quickstart
        name: unnamed
        seed: 0
        clients: 4
        hydra:
          run: {dir: "outputs/${name}/${now:%Y-%m-%d_%H-%M-%S}"}
          sweep: {dir: "outputs/${name}/${now:%Y-%m-%d_%H-%M-%S}", subdir: "${hydra.job.num}"}
          job: {name: fednano, chdir: false}
        """,
    "conf/other.yaml": "superlink: ???\n",
    "conf/experiment/quickstart.yaml": "# @package _global_\nname: quickstart\n",
    "conf/data/pydocs.yaml": "root: ${oc.env:FEDNANO_DATA,nowhere}\nspecials: []\n",
    "conf/data/text.yaml": "path: ???\nspecials: []\n",
    "conf/strategy/diloco.yaml": "name: diloco\n",
    "conf/strategy/fedavg.yaml": "name: fedavg\n",
    "conf/volatility/markov.yaml": "mean_up_s: 8\n",
    "conf/volatility/solar.yaml": "threshold: p40\n",
    "conf/volatility/trace.yaml": "threshold: p40\n",
    "mine/experiment/lab.yaml": "# @package _global_\nname: lab\nclients: 7\n",
    "mine/strategy/own.yaml": "defaults: [fedavg]\nname: own\n",
    "mine/volatility/endless.yaml": "a: &a [*a]\nb: {_target_: x.Y}\n",
    "mine/astray.yaml": "defaults: [data: text, override strategy: fedavg, _self_]\n",
    "mine/root.yaml": "defaults: [config, _self_]\nhydra: {searchpath: ['file://FOLDER/more']}\n",
    "mine/many.yaml": "defaults: [config, _self_]\nhydra: {mode: MULTIRUN, sweeper: {params: {seed: '1,2'}}}\n",
    "more/experiment/lab.yaml": "# @package _global_\nname: more\n",
}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planner:
    """Plan a command line in an empty folder beside the folders of FILES."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text).replace("FOLDER", str(tmp_path)))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for module in ("compose", "jobs", "hydra.refusals"):
        monkeypatch.setattr(f"fednano.config.{module}.conf_dir", lambda: tmp_path / "conf")

    def go(*words: str) -> PlannedLaunch:
        monkeypatch.setattr(sys, "argv", ["run.py", *words])
        return planned(command_line(), task)

    return go


SAME = [
    ["--config-dir", "../mine", "experiment=lab"],
    ["--config-dir", "../mine", "--config-name", "root", "experiment=lab"],
    ["--config-dir", "../mine", "--config-name", "many", "clients=3,5"],
    ["hydra.mode=MULTIRUN", "seed=1,2"],
    ["-m", "strategy=glob(*)", "--config-dir=../mine"],
    ["-m", "seed=range(1,3)", "clients=choice(3)"],
    ["-m", "volatility=solar,trace", "volatility.threshold=p50"],
    ["-m", "seed=1,2", "name=n${hydra:job.num}", "hydra.sweep.dir=x/${hydra.job.name}"],
    ["+hydra.job.env_set.FEDNANO_DATA=/elsewhere", "hydra.output_subdir=null"],
    ["data=text", "data.path=a/données", "name=été"],
    ["-m", "data=text", "data.path=a/données,b/ñ c"],
]


RARER = [
    ["-m", "seed=sort(1,2,reverse=true)", "hydra.sweep.subdir=s${seed}"],
    ["name=${hydra:job.name}", "hydra.run.dir=${hydra.job.override_dirname}"],
    ["hydra/launcher=basic", "hydra/sweeper=basic", "-m", "seed=1,2"],
    ["hydra.searchpath=[file://../mine]", "experiment=lab"],
    ["clients=3"],
]


@pytest.mark.parametrize(
    "words", [*SAME, *(pytest.param(words, marks=pytest.mark.slow) for words in RARER)], ids=" ".join
)
def test_what_is_checked_is_what_hydra_launches(plan: Planner, tmp_path: Path, words: list[str]) -> None:
    plan_made = plan(*words)
    checked = []
    for job in plan_made.jobs:
        with job.entered():
            checked.append((OmegaConf.to_container(job.cfg, resolve=True), job.folder))
    folder = Path("claimed").absolute() if plan_made.timed else plan_made.folder
    checked = [(cfg, folder / path.relative_to(plan_made.folder)) for cfg, path in checked]
    hand_over(command_line(), plan_made.within(folder))
    launched.clear()
    hydra.main(version_base="1.3", config_path=str(tmp_path / "conf"), config_name="config")(task)()
    assert launched == checked
    assert len(checked) > 1 or not plan_made.multirun


def test_shuffled_values_are_all_checked(plan: Planner) -> None:
    assert sorted(job.cfg.seed for job in plan("-m", "seed=shuffle(range(1,5))").jobs) == [1, 2, 3, 4]


def test_shuffled_values_are_launched_in_the_order_that_was_checked(plan: Planner) -> None:
    made = plan("-m", "seed=shuffle(range(1,9))", "strategy=glob(f*)")
    (seeds,) = (word for word in made.overrides if word.startswith("seed="))
    assert seeds == f"seed={','.join(str(job.cfg.seed) for job in made.jobs)}"
    assert "strategy=fedavg" in made.given


def test_a_glob_leaves_out_the_parts_that_choices_include(plan: Planner, tmp_path: Path) -> None:
    (tmp_path / "conf" / "strategy" / "_part.yaml").write_text("name: part\n")
    with without_parts():
        assert [job.cfg.strategy.name for job in plan("-m", "strategy=glob(*)").jobs] == ["diloco", "fedavg"]
    with pytest.raises(ValueError, match="strategy=_part is a part of other choices; use one of diloco, fedavg"):
        plan("-m", "strategy=glob(*)")  # what was replaced in Hydra is back


def test_paths_with_letters_outside_ascii_are_read_as_they_are(plan: Planner) -> None:
    paths = [job.cfg.data.path for job in plan("-m", "data=text", "data.path=a/données,b/ñ c,'é,ü',plain").jobs]
    assert paths == ["a/données", "b/ñ c", "é,ü", "plain"]
    one = plan("data=text", "data.path=${name}/é", "data.specials=[é,b]").jobs[0].cfg
    assert (one.data.path, list(one.data.specials)) == ("quickstart/é", ["é", "b"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-m", "seed=1,2", "name=a(b"], "name=a(b cannot be read as KEY=VALUE; "),
        (["-m", "seed=1,2", "sed=3"], "sed=3 sets a key that does not exist; did you mean seed?"),
        (["-m", "strategy=fedav,diloco"], "strategy=fedav does not exist; use one of diloco, fedavg"),
        (
            ["-m", "volatility=solar,markov", "volatility.threshold=p50"],
            "volatility.threshold=p50 sets a key that does",
        ),
        (["-m", "seed=interval(1,3)"], "seed must be a list of values with Hydra's own sweeper, got interval(1,3); "),
        (["-m", "hydra/sweeper=nope", "seed=1,2"], "hydra/sweeper=nope does not exist; use one of basic"),
        (["-m", "hydra.run.dir=a,b"], "hydra.run.dir must be one value, got a,b; sweep over keys of the run"),
        (["-m", "seed=range(3,1)", "clients=2"], "seed must have at least one value to sweep over, got range(3,1); "),
        (["-m", "strategy=glob(zz*)"], "strategy must have at least one value to sweep over, got glob(zz*); name one"),
        (["hydra.run.dir="], "hydra.run.dir must name a folder, got nothing; "),
        (["hydra.output_subdir=model/x"], "hydra.output_subdir must not be a name of the run's own, got model/x; "),
        (
            ["-m", "seed=1,2", "hydra.output_subdir=report.html"],
            "hydra.output_subdir must not be a name of the run's own, got report.html; ",
        ),
        (["hydra.output_subdir=.claim"], "hydra.output_subdir must not be a name of the run's own, got .claim; "),
        (["hydra.output_subdir=report.html"], "hydra.output_subdir must not be a name of the run's own, got report."),
        (["hydra.output_subdir=."], "hydra.output_subdir must be a folder in the run folder, got .; use one such as"),
        (["hydra.output_subdir=../x"], "hydra.output_subdir must be a folder in the run folder, got ../x; use"),
        (["hydra.output_subdir=/x"], "hydra.output_subdir must be a folder in the run folder, got /x; use"),
        (["hydra.hydra_logging.root=5"], "hydra.hydra_logging must be what Hydra can use, got {"),
        (
            ["hydra/job_logging=stdout", "hydra.job_logging.root.level=LOUD"],
            "hydra.job_logging must be what Hydra can use",
        ),
        (["seed=1,2"], "seed must be one value, got 1,2; add -m for one run with each, write a list as seed=[A,B], "),
        (
            ["optim.matrix_lr=tag(log, interval(0.001,0.1))"],
            "optim.matrix_lr must be one value, got tag(log, interval(0.001,0.1)); add -m hydra/sweeper=optuna, which",
        ),
        (["seed=interval(1,3)"], "seed must be one value, got interval(1,3); add -m hydra/sweeper=optuna, which "),
        (
            ["hydra/launcher=submitit_local"],
            "hydra/launcher=submitit_local must come with -m, since it serves a sweep only, got one run; add -m",
        ),
        (["hydra/sweeper=optuna"], "hydra/sweeper=optuna must come with -m, since it serves a sweep only, got one run"),
        (["seed=range(1,2)"], "seed must be one value, got range(1,2); add -m for one run with each, "),
        (["strategy=diloco,fedavg"], "strategy must be one value, got diloco,fedavg; add -m for one run with each, "),
        (["name=${nokey}"], "name must refer to values that exist, got ${nokey} (Interpolation key 'nokey' not found)"),
        (["-m", "seed=1,2", "name=${nokey}"], "name must refer to values that exist, got ${nokey} (Interpolation"),
        (["name=${oc.env:NOPE}"], "name must refer to values that exist, got ${oc.env:NOPE} (Environment variable 'NO"),
        (["name=${name}"], "name must refer to values that exist, got ${name} (Recursive interpolation detected); "),
        (["name=???"], "name is not set; add name=VALUE"),
        (["hydra.run.dir=${seed.x}"], "hydra.run.dir must refer to values that exist, got ${seed.x} (Error trying to"),
        (["hydra.output_subdir=${nokey}"], "hydra.output_subdir must refer to values that exist, got ${nokey} ("),
        (["hydra.job.name=${nokey}"], "hydra.job.name must refer to values that exist, got ${nokey} ("),
        (["+hydra.job.env_set.A=${nokey}"], "hydra.job.env_set.A must refer to values that exist, got ${nokey} ("),
        (["hydra.mode=${nokey}"], "hydra.mode must refer to values that exist, got ${nokey} ("),
        (["hydra.job_logging=${nokey}"], "hydra.job_logging must be what Hydra can use, got ${nokey} ("),
        (["--config-dir", "../mine", "volatility=endless"], "volatility=endless must be nested a few levels"),
        (["hydra.job.env_set.A=1"], "hydra.job.env_set.A=1 sets a key that does not exist; add it as +hydra.job.env_s"),
        (["strategy=../../etc/passwd"], "strategy must be the name of a choice, got ../../etc/passwd; use one of dilo"),
        (["hydra/launcher=../x"], "hydra/launcher=../x does not exist; use one of basic"),
        (["~data"], "data must be set, got ~data, which deletes it; leave ~data out"),
        (["~data=pydocs"], "data must be set, got ~data, which deletes it; leave ~data out"),
        (["-m", "seed=1,2", "~clients"], "clients must be set, got ~clients, which deletes it; leave ~clients out"),
        (["~hydra/sweeper=nope"], "~hydra/sweeper=nope must name the choice that is made, got another one; write "),
        (["~volatility.mean_up_s=1"], "~volatility.mean_up_s=1 must name the value that is set, got another than 8; "),
        (["+seed=1"], "+seed must add a key that is not there, got one that is; write it as seed=VALUE"),
        (["+data=text"], "+data must add a group that has no choice yet, got one that has; write it as data=text"),
        (["++data=text"], "++data must not be a group of choices, got ++data=text; write it as data=text"),
        (["hydra.searchpath=5"], "hydra.searchpath must be a list of folders, got 5; write it as hydra.searchpath=["),
        (["--cfg", "job", "--resolve", "seed=${nokey}"], "seed must refer to values that exist, got ${nokey} ("),
        (["--cfg", "hydra", "--resolve"], "--resolve must be given with --cfg job or all, got --cfg hydra; remove"),
        (["--help", "hydra.help.footer=${nokey}"], "hydra.help.footer must refer to values that exist, got ${nokey} ("),
        (["=5"], "=5 cannot be read as KEY=VALUE; write the key as names with dots between them"),
        (["seed"], "seed cannot be read as KEY=VALUE; write seed=VALUE"),
        (["strategy..x=5"], "strategy..x=5 cannot be read as KEY=VALUE; write the key as names with dots between them"),
        (["--config-name", "other"], "--config-name must be a YAML file whose defaults begin with config, got other, "),
        (["--config-name", "data/text"], "--config-name must be a YAML file whose defaults begin with config, got da"),
        (["--config-name", "/etc/passwd"], "--config-name must be the name of a YAML file in conf/ or in --config-di"),
        (["--config-dir", "../mine", "--config-name", "astray"], "astray.yaml must override groups that its defaults"),
        (["name=\udcff\udcfe"], "name must be text in UTF-8, got '\\udcff\\udcfe'; write it in UTF-8"),
        (["-m", "name=a,\udcfe"], "name must be text in UTF-8, got 'a,\\udcfe'; write it in UTF-8"),
        (["--config-dir=\udcff"], "--config-dir must be text in UTF-8, got '\\udcff'; write it in UTF-8"),
        ([f"seed={'9' * 5000}"], "seed=99999999999999999999999999999999999… (5005 characters) must fit into 64 bits, "),
        (["-m", "seed=1", "hydra.sweep.subdir=../../z"], "hydra.sweep.subdir must be a folder in the sweep's, got .."),
        (["-m", "seed=1", "hydra.sweep.subdir=/z"], "hydra.sweep.subdir must be a folder in the sweep's, got /z; use"),
        (["-m", "seed=1", "hydra.sweep.subdir=.claim"], "hydra.sweep.subdir must be a folder in the sweep's, got .cla"),
        (["-m", "seed=1", "hydra.sweep.subdir=."], "hydra.sweep.subdir must be a folder in the sweep's, got .; use"),
        (["-m", "seed=1,2", "hydra.sweep.subdir=a/../../${seed}"], "hydra.sweep.subdir must be a folder in the sweep'"),
        (["-m", "seed=1", "hydra.sweep.subdir=${nokey}"], "hydra.sweep.subdir must refer to values that exist, got $"),
        (["name=é(b"], "name=é(b cannot be read as KEY=VALUE; quote values that contain spaces, commas, letters out"),
        (["--config-dir", "nowhere"], "--config-dir must be a folder, got nowhere; "),
        (
            ["--config-name", "nope"],
            "--config-name must be the name of a YAML file in conf/ or in --config-dir, got nope; ",
        ),
        (["--config-path", "/nowhere"], "--config-path must be a folder, got /nowhere; leave it out, "),
        (["--cfg", "job", "-m"], "--multirun must be the only one of its kind, got --cfg too; "),
        (["--resolve"], "--resolve must be given with --cfg, got no --cfg; "),
        (["--cfg", "job", "--package", "nope.x"], "--package must name a part of the configuration, got nope.x; "),
        (["--package", "seed"], "--package must be given with --cfg, got no --cfg; add --cfg job"),
        (["-m", "hydra.launcher.x=1"], "hydra.launcher.x=1 sets a key that does not exist; add an argument that its"),
        (["-m", "+hydra.launcher.x=1"], "hydra.launcher must be what Hydra can use, got {'_target_': 'hydra._internal"),
        (["-m", "hydra.launcher=null"], "hydra.launcher must be what Hydra can use, got null (Hydra launcher is not"),
        (["-m", "+hydra.sweeper.x=1"], "hydra.sweeper must be what Hydra can use, got {'_target_': 'hydra._internal"),
        (["hydra.mode=MULTIRUN", "hydra.sweeper=null"], "hydra.sweeper must be what Hydra can use, got null (Hydra sw"),
        (
            ["-m", "hydra.sweeper._target_=hydra.A"],
            "hydra.sweeper must be what Hydra can use, got {'_target_': 'hydra.",
        ),
        (["-m", "hydra.sweeper.max_batch_size=0"], "hydra.sweeper.max_batch_size must be >= 1, got 0; use 1 or more"),
        (
            ["-m", "hydra/sweeper=optuna", "hydra.sweeper.storage=sqlite:///x", "seed=interval(1,3)"],
            "hydra.sweeper.storage must be null, got sqlite:///x, which Optuna 2 cannot write beside Flower's SQLAlche",
        ),
        (
            ["-m", "hydra/sweeper=optuna", "sed=interval(1,3)"],
            "sed=1.0 sets a key that does not exist; did you mean seed?",
        ),
        (
            ["-m", "hydra/sweeper=optuna", "strategy=diloco,own,fedavg"],
            "strategy=own does not exist; use one of diloco",
        ),
        (
            ["-m", "hydra/launcher=submitit_slurm", "seed=1,2"],
            "hydra/launcher=slurm must be given where SLURM's sbatch is, got a machine without it; go to the cluster's",
        ),
        (["+hydra.callbacks.x=5"], "hydra.callbacks must be what Hydra can use, got {'x': 5} ("),
        (["clients=3", "hydra=null"], "hydra=null cannot be composed ("),
        (["--cfg", "job", "sed=3"], "sed=3 sets a key that does not exist; did you mean seed?"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_every_error_is_one_line(plan: Planner, words: list[str], says: str) -> None:
    with pytest.raises(ValueError) as error:
        plan(*words)
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) <= 300


def test_values_that_are_chosen_late_are_checked_at_both_ends(plan: Planner) -> None:
    words = ("seed=interval(1,9)", "clients=range(2,10,2)", "name=a,b,c", "strategy=diloco,fedavg", "volatility=solar")
    jobs = plan("-m", "hydra/sweeper=optuna", *words).jobs
    ends = [(cfg.seed, cfg.clients, cfg.name, cfg.strategy.name) for cfg in (job.cfg for job in jobs)]
    assert ends == [(1, 2, "a", "diloco"), (9, 10, "c", "fedavg")]
    (alone,) = plan("-m", "hydra/sweeper=optuna", "seed=3").jobs
    assert alone.cfg.seed == 3


NO_SHELL = "--shell-completion must be given with install=SHELL, uninstall=SHELL or query=SHELL alone, got "


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], f"{NO_SHELL}none; use one of bash, fish, zsh as SHELL"),
        (["install=nonsense"], f"{NO_SHELL}install=nonsense; "),
        (["install=bash", "seed=1"], f"{NO_SHELL}install=bash seed=1; "),
        (["query=bash"], "query=bash must be asked by a shell, which sets COMP_LINE; use install=bash instead"),
        (["-m"], "--multirun must be the only one of its kind, got --shell-completion too; remove one of them"),
    ],
)
def test_completion_is_asked_of_a_shell(monkeypatch: pytest.MonkeyPatch, words: list[str], says: str) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "--shell-completion", *words])
    monkeypatch.delenv("COMP_LINE", raising=False)
    with pytest.raises(ValueError) as error:
        check_options(command_line())
    assert str(error.value).startswith(says)
    monkeypatch.setenv("COMP_LINE", "")
    monkeypatch.setattr(sys, "argv", ["run.py", "--shell-completion", "query=fish"])
    check_options(command_line())


def test_info_after_an_override_takes_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "seed=3", "--info"])
    assert (command_line().info, sys.argv) == ("all", ["run.py", "--info", "all", "seed=3"])


def test_a_folder_named_after_the_time_is_handed_over_and_any_other_left_alone(plan: Planner) -> None:
    for words, key in ((["seed=1"], "hydra.run.dir"), (["-m", "seed=1,2"], "hydra.sweep.dir")):
        timed = plan(*words, f"{key}=x${{now:%H}}")
        assert timed.timed
        told = "++hydra.job.env_set.FEDNANO_SWEEP='{}'"  # to the jobs of a sweep
        ours, theirs = ([told.format(place)] if timed.multirun else [] for place in ("/it\\'s/\\${x}", "/y"))
        assert timed.within(Path("/it's/${x}")) == [words[-1], f"{key}='/it\\'s/\\${{x}}'", *ours]
        named = plan(*words, f"{key}=x")
        assert not named.timed
        assert named.within(Path("/y")) == [words[-1], f"{key}=x", *theirs]
        assert named.folder == Path("x").absolute()
        assert plan(*words).timed
