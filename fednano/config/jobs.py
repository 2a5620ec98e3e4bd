"""The jobs of a command line, composed exactly as Hydra will compose them when it launches them."""

import pickle
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import (
    create_automatic_config_search_path,
    detect_calling_file_or_module_from_task_function,
    detect_task_name,
)
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import env_override, setup_globals, validate_config_path
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from fednano.config.compose import conf_dir, require_config_dir
from fednano.config.errors import ConfigError, shown
from fednano.config.hydra.node import (
    RECORD,
    check_job,
    check_output_subdir,
    check_unresolved_subdir,
    folder_of,
    hydra_config,
    is_timed,
    value_of,
)
from fednano.config.hydra.options import check_options, check_plugins, refuse_plugins_of_sweeps
from fednano.config.hydra.plugins import launcher_of, settings
from fednano.config.hydra.references import require_resolvable
from fednano.config.hydra.refusals import Recompose, refusals, refuse_no_choices, unknown_key
from fednano.config.hydra.swept import check_swept, chosen_late, searched, trials, with_values
from fednano.config.moved import with_current_keys
from fednano.config.quoting import quoted_overrides

DEFAULT = "config"  # the name of the configuration that a run composes


@dataclass(frozen=True)
class Job:
    """One job: its configuration with Hydra's own node, and its run folder."""

    composed: DictConfig
    folder: Path

    @property
    def cfg(self) -> DictConfig:
        """The configuration without Hydra's own node."""
        plain = OmegaConf.masked_copy(self.composed, [str(key) for key in self.composed if key != "hydra"])
        assert isinstance(plain, DictConfig)
        return plain

    @property
    def base(self) -> Path:
        """The folder from which relative paths of the configuration are seen."""
        return Path(self.composed.hydra.runtime.cwd)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """What holds while the job runs: the environment that it sets, and what `${hydra:…}` refers to."""
        with hydra_config(self.composed), env_override(self.composed.hydra.job.env_set):
            yield


@dataclass(frozen=True, kw_only=True)
class PlannedLaunch:
    """What Hydra is going to launch.

    Args:
        jobs: every job; of a sweeper other than Hydra's own, which chooses later, one with the first values that it may
            choose, and if there are others, one with the last.
        overrides: the overrides to give to Hydra.
        multirun: whether the jobs are a sweep.
        folder: the run folder, or the sweep's.
        timed: whether the folder is named after the time, as by default, so that another name does as well.
        given: the overrides of a sweep as they were given, with values that are shuffled or looked up as a list.
        words: the overrides of each job of a sweep; None: its sweeper chooses them later.
        launcher: the class of a sweep's launcher.
    """

    jobs: tuple[Job, ...]
    overrides: tuple[str, ...]
    multirun: bool
    folder: Path
    timed: bool
    given: tuple[str, ...] = ()
    words: tuple[tuple[str, ...], ...] | None = None
    launcher: str = ""

    @property
    def key(self) -> str:
        """The configuration key that names the folder."""
        return "hydra.sweep.dir" if self.multirun else "hydra.run.dir"

    def within(self, folder: Path) -> list[str]:
        """The overrides with which Hydra uses `folder`, whatever the time is by then, and jobs know of a sweep's."""
        named = "'" + str(folder.absolute()).replace("'", "\\'").replace("${", "\\${") + "'"
        told = [f"++hydra.job.env_set.{RECORD}={named}"] if self.multirun else []
        if not self.timed:
            return [*self.overrides, *told]
        return [*without(self.overrides, self.key), f"{self.key}={named}", *told]


def without(overrides: Sequence[str], key: str) -> list[str]:
    """The overrides but those of a key."""
    return [override for override in overrides if override.partition("=")[0].lstrip("+") != key]


def planned(arguments: Namespace, task: TaskFunction) -> PlannedLaunch:
    """The jobs that Hydra will launch for a command line. Raises ConfigError."""
    check_options(arguments)
    name, overrides = _check_name(arguments), with_current_keys(quoted_overrides(arguments.overrides))
    with _hydra(arguments, task) as hydra:
        if arguments.multirun:
            return _sweep(hydra, name, overrides, task)
        try:
            cfg = _composed(hydra, name, overrides)
        except ConfigError:
            # As one run. Values to sweep over can still come with hydra.mode=MULTIRUN.
            if arguments.cfg or arguments.info or not _sweeps(hydra, name, overrides):
                raise
            return _sweep(hydra, name, overrides, task)
        if value_of(cfg, "mode") == RunMode.MULTIRUN and not arguments.cfg and not arguments.info:
            return _sweep(hydra, name, overrides, task)
        folder = folder_of(cfg, "run.dir")
        _check_package(arguments, cfg)
        check_output_subdir(cfg)
        check_job(cfg, helps=bool(arguments.help))
        if not (arguments.help or arguments.hydra_help or arguments.cfg or arguments.info):
            check_plugins(hydra, cfg, task, multirun=False)
            refuse_plugins_of_sweeps(overrides)
        return PlannedLaunch(
            jobs=(Job(cfg, folder),),
            overrides=tuple(overrides),
            multirun=False,
            folder=folder,
            timed=is_timed(cfg.hydra.run),
        )


def told_late(error: Exception, plan: PlannedLaunch, arguments: Namespace, task: TaskFunction) -> str | None:
    """What is wrong with values that a sweeper chose, in one line; None if a job could be composed of them."""
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    name = _check_name(arguments)
    try:
        with _hydra(arguments, task) as hydra, refusals(plan.given, name, _recomposing(hydra, name, RunMode.MULTIRUN)):
            raise error
    except ConfigError as refusal:
        return str(refusal)


def rerun(pickled: str) -> Job:
    """The job that Hydra pickled into a file, as its callback PickleJobInfoCallback does. Raises ConfigError."""
    setup_globals()
    try:
        with Path(pickled).open("rb") as file:
            composed = pickle.load(file)
        return Job(composed, folder_of(composed, "run.dir"))
    except Exception as error:  # a pickle can raise anything
        raise ConfigError(
            f"--experimental-rerun must be a config.pickle of Hydra's, got {pickled} ({error}); name another file"
        ) from error


def _check_name(arguments: Namespace) -> str:
    """The name of the root configuration. Raises ConfigError for a file of fednano's that is the root of no run."""
    name = str(arguments.config_name or DEFAULT).removesuffix(".yaml")
    file = f"{name}.yaml"
    own = arguments.config_dir is not None and Path(arguments.config_dir, file).is_file()
    if name != DEFAULT and not own and arguments.config_path is None and (conf_dir() / file).is_file():
        raise ConfigError(
            f"--config-name must be a YAML file whose defaults begin with {DEFAULT}, got {shown(name)}, which is no "
            "configuration of a run; leave the option out"
        )
    return name


@contextmanager
def _hydra(arguments: Namespace, task: TaskFunction) -> Iterator[Hydra]:
    """Hydra as its own launch of `task` sets it up, with the same search path."""
    version.setbase("1.3")
    GlobalHydra.instance().clear()
    file, module = detect_calling_file_or_module_from_task_function(task)
    config_path = arguments.config_path or str(conf_dir())
    with refusals([], DEFAULT, lambda _: OmegaConf.create()):
        validate_config_path(config_path)
        path = create_automatic_config_search_path(file, module, config_path)
    if arguments.config_dir is not None:
        folder = require_config_dir(arguments.config_dir)
        path.prepend(provider="command-line", path=f"file://{folder}", anchor=SearchPathQuery(provider="schema"))
    try:
        yield Hydra.create_main_hydra2(task_name=detect_task_name(file, module), config_search_path=path)
    finally:
        GlobalHydra.instance().clear()


def _sweeps(hydra: Hydra, name: str, overrides: Sequence[str]) -> bool:
    """Whether hydra.mode asks for a sweep, of overrides that cannot be composed as one run."""
    try:
        return bool(hydra.get_mode(name, list(overrides)) == RunMode.MULTIRUN)
    except Exception:  # nor as anything else
        return False


def _recomposing(hydra: Hydra, name: str, mode: RunMode = RunMode.RUN) -> Recompose:
    return lambda choices: hydra.compose_config(name, choices, mode)


def _composed(hydra: Hydra, name: str, overrides: Sequence[str], mode: RunMode = RunMode.RUN) -> DictConfig:
    with refusals(overrides, name, _recomposing(hydra, name)):
        refuse_no_choices(overrides, name)
        return hydra.compose_config(name, list(overrides), mode)


def _sweep(hydra: Hydra, name: str, overrides: Sequence[str], task: TaskFunction) -> PlannedLaunch:
    base, lenient = _sweep_base(hydra, name, overrides)
    check_plugins(hydra, base, task, multirun=True)
    check_output_subdir(base)
    check_job(base)
    folder = folder_of(base, "sweep.dir")
    all_words: tuple[tuple[str, ...], ...] | None = None
    strict = {ours: given for given, ours in zip(overrides, lenient, strict=True)}
    asked: Any = OmegaConf.to_container(base.hydra.overrides.task, resolve=False)
    words = [strict.get(word, word) for word in asked]
    if chosen_late(base.hydra):
        check_unresolved_subdir(base)
        jobs = _jobs_at_the_ends(hydra, name, base, [*searched(base.hydra.sweeper.get("params")), *words], folder)
    else:
        fixed = [f"{key}={value}" for key, value in (base.hydra.sweeper.params or {}).items()]
        words = [*fixed, *words]
        with refusals(words, name, _recomposing(hydra, name)):
            parser = OverridesParser.create(config_loader=hydra.config_loader)
            parsed = parser.parse_overrides(words)
            check_swept(parsed)
            listed = {word: with_values(override) for word, override in zip(words, parsed, strict=True)}
            (batch,) = BasicSweeper.split_arguments(parser.parse_overrides(list(listed.values())), max_batch_size=None)
        overrides, lenient = ([listed.get(word, word) for word in given] for given in (overrides, lenient))
        new = [listed[word] for word in fixed if listed[word] != word]
        overrides, lenient = [*overrides, *new], [*lenient, *new]
        all_words = tuple(tuple(words) for words in batch)
        jobs = [_job_of_sweep(hydra, name, base, words, number) for number, words in enumerate(all_words)]
    return PlannedLaunch(
        jobs=tuple(jobs),
        overrides=(*lenient, *settings(base, overrides, len(all_words) if all_words else None)),
        multirun=True,
        folder=folder,
        timed=is_timed(base.hydra.sweep),
        given=tuple(overrides),
        words=all_words,
        launcher=launcher_of(base),
    )


def _jobs_at_the_ends(hydra: Hydra, name: str, base: DictConfig, words: Sequence[str], folder: Path) -> list[Job]:
    """Jobs as a sweeper may choose them later: with the first values, and with the last if those are others.

    Each choice of a group is composed too. Raises ConfigError for a key that does not exist and the like.
    """
    recompose = _recomposing(hydra, name)
    with refusals(words, name, recompose):
        parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(list(words))
        loader = hydra.config_loader
        chosen = trials(parsed, lambda key: bool(loader.get_group_options(key.replace(".", "/"))))
    jobs = []
    for trial in chosen:
        with refusals(trial, name, recompose):
            refuse_no_choices(trial, name)
            cfg = hydra.config_loader.load_sweep_config(base, trial)
        jobs.append(Job(cfg, folder))
    return jobs[:2]


def _sweep_base(hydra: Hydra, name: str, overrides: Sequence[str]) -> tuple[DictConfig, list[str]]:
    """What Hydra composes before it chooses any swept value, and the overrides with which it can.

    A key that only the swept choices of a group have is not there yet, so it is added; each job is checked without.
    Hydra's own groups cannot be swept, so a key of theirs is there or does not exist.
    """
    lenient = list(overrides)
    while True:
        try:
            return hydra.compose_config(name, list(lenient), RunMode.MULTIRUN), lenient
        except ConfigCompositionException as error:
            key = unknown_key(error)
            known = [word for word in lenient if word.partition("=")[0] == key]
            if not known or str(key).startswith("hydra."):
                break
            lenient = [f"++{word}" if word in known else word for word in lenient]
        except Exception:
            break  # composing once more, below, says in one line what is wrong
    return _composed(hydra, name, lenient, RunMode.MULTIRUN), lenient


def _job_of_sweep(hydra: Hydra, name: str, base: DictConfig, words: Sequence[str], number: int) -> Job:
    with refusals(words, name, _recomposing(hydra, name)):
        refuse_no_choices(words, name)
        cfg = hydra.config_loader.load_sweep_config(base, list(words))
    with open_dict(cfg):
        cfg.hydra.job.id = cfg.hydra.job.num = number
    return Job(cfg, folder_of(cfg, "sweep.dir", "sweep.subdir"))


def _check_package(arguments: Namespace, cfg: DictConfig) -> None:
    """Refuse a --package that --cfg would not find, and --resolve where it would fail."""
    if arguments.cfg == "hydra" and arguments.resolve:
        raise ConfigError("--resolve must be given with --cfg job or all, got --cfg hydra; remove --resolve")
    if arguments.cfg and arguments.resolve:
        require_resolvable(Job(cfg, Path()).cfg)
    shown: dict[str, list[Any]] = {"job": [key for key in cfg if key != "hydra"], "hydra": ["hydra"], "all": list(cfg)}
    if arguments.cfg and arguments.package not in (None, "_global_"):
        part: Any = arguments.package.partition(".")[0]
        if part not in shown[arguments.cfg] or OmegaConf.select(cfg, arguments.package) is None:
            raise ConfigError(
                f"--package must name a part of the configuration, got {arguments.package}; print all of it with "
                f"--cfg {arguments.cfg}"
            )
