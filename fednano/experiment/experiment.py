"""The experiment: a composed configuration, checked, and the parts of a run built from it."""

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf

from fednano.codec.pair import CodecPair
from fednano.config.build import build_groups, plain
from fednano.config.checks import check_record, check_value, not_set
from fednano.config.errors import shown
from fednano.config.paths import with_absolute_paths
from fednano.config.recorded import check_recorded
from fednano.coordination.memory import MemoryStore
from fednano.coordination.store import CoordinationStore
from fednano.core.progress import Progress, Silent
from fednano.data.loader import TextSource
from fednano.data.partition import dealt
from fednano.experiment.cross_checks import check_across
from fednano.experiment.groups import GROUPS, LATER, Groups
from fednano.experiment.preparation import Prepared, held_out, prepare_tokenizer
from fednano.experiment.sizes import check_windows
from fednano.experiment.sweep import SweepSettings
from fednano.model.gpt import GPTConfig
from fednano.model.scaling import derived_shape
from fednano.runtime.beginning import message_bytes
from fednano.runtime.parts import Parts, RunSettings
from fednano.runtime.protocol import Conducted, Runtime
from fednano.runtime.recipe import BUILD, Recipe
from fednano.strategy.pacing import Pacing
from fednano.training.budget import Budget
from fednano.training.evaluate import Validation

DERIVED = ("batch_size", "rounds")  # derived from the depth if null
BUDGET = "budget"
OF_COMMAND = ("resume", "sweep")  # keys of the command, which say nothing about the run
LONGEST_NAME = 200  # bytes of a folder's name, with room for what is added to it


class Experiment:
    """A checked configuration and the objects it names.

    Args:
        cfg: the composed configuration, without Hydra's own node.
        base: the folder from which relative paths are seen; None: the current one.

    Raises:
        ValueError: a bad key or value; the message names it and a remedy.
    """

    def __init__(self, cfg: DictConfig, base: Path | None = None) -> None:
        self._base = base
        _check_settings(cfg)
        chosen = [group for group in GROUPS if group in cfg.keys() or group not in LATER]  # noqa: SIM118  # as below
        groups = Groups.of(build_groups(cfg, chosen, base))
        self.groups = replace(groups, volatility=groups.planner.plan(groups.volatility))
        self.settings = self._settings(cfg)
        self._config = self.resolved(cfg)
        check_across(self.groups, self.settings)
        self.groups.coordination.check(self.runtime.name, self.runtime.in_process)
        self.groups.data.check()

    @property
    def runtime(self) -> Runtime | Conducted:
        return self.groups.runtime

    def prepare(self, progress: Progress) -> Prepared:
        """Make the corpus and the tokenizer unless they exist. Raises ValueError for bad data."""
        corpus = self.groups.data.ensure(progress)
        tokenizer = prepare_tokenizer(self.groups.tokenizer, corpus, progress)
        return Prepared(corpus, tokenizer)

    def parts(self, prepared: Prepared, store: CoordinationStore) -> Parts:
        """Everything that a runtime needs. Raises ValueError if there is too little data."""
        corpus, tokenizer, settings, groups = prepared.corpus, prepared.tokenizer, self.settings, self.groups
        gpt = GPTConfig.derive(groups.model, groups.arch, tokenizer.vocab_size)
        sources, names = corpus.sources(), corpus.source_names
        pools = dealt(groups.data.partition, sources, len(names), settings.clients, settings.seed)
        shape = (settings.batch_size, gpt.sequence_len)
        validation = Validation(held_out(prepared), tokenizer.token_lengths(), shape, settings.eval_tokens)
        bytes_per_token = validation.bytes / validation.tokens
        tokens_per_row = 1 + corpus.train_bytes / corpus.train_rows / bytes_per_token
        parts = Parts(
            recipe=Recipe(BUILD, OmegaConf.to_yaml(OmegaConf.create(self._config))),
            settings=settings,
            gpt=gpt,
            optim=groups.optim,
            strategy=groups.strategy,
            round=groups.round,
            planner=groups.planner,
            guard=groups.guard,
            volatility=groups.volatility,
            hardware=groups.hardware,
            network=groups.network,
            energy=groups.energy,
            codecs=CodecPair(update=groups.codec, download=groups.download, seed=settings.seed),
            pools=pools,
            packing=groups.packing,
            source=TextSource(corpus.texts, tokenizer.encode_batch, tokenizer.bos_id),
            validation=validation,
            tokenizer=tokenizer,
            store=store,
            coordination=groups.coordination,
            tokens_per_row=tokens_per_row,
        )
        sites = list(parts.sites(message_bytes(parts)).values())
        parts.round.check(sites, parts.tokens_per_step)
        check_windows(groups, settings, sites, parts.tokens_per_step)
        if settings.budget != Budget():
            least = parts.round.least(sites, parts.strategy.quorum, parts.strategy.local_steps, parts.tokens_per_step)
            settings.budget.check(*least, real=not isinstance(self.runtime, Runtime))
        self.runtime.check(parts)
        return parts

    def resolved(self, cfg: DictConfig) -> dict[str, Any]:
        """The configuration as plain values, with derived values in place of null and absolute paths."""
        values = {str(key): plain(cfg, str(key)) for key in cfg if key not in OF_COMMAND}
        absolute = with_absolute_paths(values, self._base)
        assert isinstance(absolute, dict)
        return {**absolute, **asdict(self.settings)}

    def _settings(self, cfg: DictConfig) -> RunSettings:
        given = {field.name: plain(cfg, field.name) for field in fields(RunSettings) if field.name != BUDGET}
        given[BUDGET] = budget = Budget(**_budget(cfg))
        derives_rounds = given["rounds"] is None and not budget.ends_by_plan
        length = self.groups.round
        for key, needed in (("until", "steps"), ("local_steps", "fixed")):
            if derives_rounds and (chosen := getattr(length, key)) != needed:
                raise ValueError(
                    f"rounds must be set with round.{key}={chosen}, got null; set rounds, budget.tokens or "
                    f"round.{key}={needed}"
                )
        if derives_rounds and Pacing.of(self.groups.strategy).carries:
            raise ValueError(
                "rounds must be set with strategy.late=next, got null; a merge may have any number of updates, so set "
                "rounds, budget.tokens or budget.virtual_hours"
            )
        if (derives_rounds or given["batch_size"] is None) and given["clients"] >= 1:
            groups = self.groups
            batch_size, rounds = derived_shape(
                groups.model,
                groups.tokenizer.vocab_size,
                groups.arch,
                given["clients"],
                groups.strategy.local_steps,
                given["batch_size"],
            )
            given["batch_size"] = batch_size
            given["rounds"] = rounds if derives_rounds else given["rounds"]
        return RunSettings(**given)


def rebuilt(config: str) -> Parts:
    """The parts of a run, from its resolved configuration as YAML; the data must be prepared already."""
    cfg = OmegaConf.create(config)
    assert isinstance(cfg, DictConfig)
    check_recorded(cfg, "the run's configuration")
    experiment = Experiment(cfg)
    return experiment.parts(experiment.prepare(Silent()), MemoryStore())


def _budget(cfg: DictConfig) -> Any:
    """The `budget` keys; empty for runs older than these keys."""
    node = plain(cfg, BUDGET)
    return {} if node is None else node


def _check_settings(cfg: DictConfig) -> None:
    hints = get_type_hints(RunSettings, include_extras=True)
    for key in cfg:
        if key not in hints and key not in GROUPS and key not in ("name", *OF_COMMAND):
            raise ValueError(f"{key!s}={shown(plain(cfg, str(key)))} sets a key that does not exist; remove it")
    if (resume := plain(cfg, "resume")) is not None:
        raise ValueError(
            f"resume must be given on the command line as resume=FOLDER, got {shown(resume)}; move it there"
        )
    sweep = plain(cfg, "sweep")
    check_record(sweep or {}, SweepSettings, "sweep")
    SweepSettings(**(sweep or {}))
    for key, hint in hints.items():
        if key != BUDGET:
            if key not in cfg.keys():  # noqa: SIM118  # a key set to ??? is not in the mapping itself
                raise ValueError(not_set(key, "+"))
            check_value(key, plain(cfg, key), hint | None if key in DERIVED else hint)
    check_record(_budget(cfg), Budget, BUDGET)
    name = plain(cfg, "name")
    check_value("name", name, str)
    component = Path(name).name == name and "\\" not in name and name.isprintable()
    if not component or name.startswith(".") or len(name.encode()) > LONGEST_NAME:
        raise ValueError(
            f"name must be a valid folder name, got {shown(name)}; use letters, digits and dashes, and no dot in front"
        )
