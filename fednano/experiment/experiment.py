"""From a composed configuration to the parts of a run: every check across groups is made here, once."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from omegaconf import DictConfig, OmegaConf

from fednano.config.checks import check_record, check_value
from fednano.config.cli import build_groups
from fednano.coordination.memory import MemoryStore
from fednano.coordination.store import CoordinationStore
from fednano.core.progress import Progress, Silent
from fednano.core.ranks import world
from fednano.data.loader import TextSource
from fednano.data.shards import Corpus
from fednano.flower.records import LOSSLESS
from fednano.model.gpt import GPTConfig
from fednano.model.scaling import derived_shape
from fednano.runtime.parts import Conducted, Parts, Runtime, Settings
from fednano.runtime.recipe import Recipe
from fednano.tokenizer import Tokenizer
from fednano.tokenizer.train import BpeTrainer
from fednano.training.budget import Budget
from fednano.training.evaluate import Validation, require_row
from fednano.volatility.membership import Membership

GROUPS = (
    "model",
    "arch",
    "partition",
    "packing",
    "data",
    "tokenizer",
    "optim",
    "strategy",
    "round",
    "planner",
    "codec",
    "volatility",
    "hardware",
    "network",
    "energy",
    "runtime",
    "coordination",
    "logger",
)
DERIVED = ("batch_size", "rounds")  # where null, they follow from the depth
BUDGET = "budget"


@dataclass(frozen=True)
class Prepared:
    """The corpus and its tokenizer, on disk and ready."""

    corpus: Corpus
    tokenizer: Tokenizer


class Experiment:
    """A checked configuration and the objects that it names.

    Args:
        cfg: the composed configuration, without Hydra's own node.

    Raises:
        ValueError: a bad key or value, named with its remedy.
    """

    def __init__(self, cfg: DictConfig) -> None:
        _check_settings(cfg)
        self.groups = build_groups(cfg, GROUPS)
        self.groups["volatility"] = self.groups["planner"].plan(self.groups["volatility"])
        self.settings = self._settings(cfg)
        self._config = self.resolved(cfg)
        self._check_across()
        self.groups["coordination"].check(self.runtime.name, self.runtime.in_process)
        self.groups["data"].check()

    @property
    def runtime(self) -> Runtime | Conducted:
        runtime: Runtime | Conducted = self.groups["runtime"]
        return runtime

    def prepare(self, progress: Progress) -> Prepared:
        """Make what is missing of corpus and tokenizer. Raises ValueError for bad data."""
        corpus = self.groups["data"].ensure(progress)
        tokenizer = prepare_tokenizer(self.groups["tokenizer"], corpus, progress)
        return Prepared(corpus, tokenizer)

    def parts(self, prepared: Prepared, store: CoordinationStore) -> Parts:
        """Everything that a runtime needs. Raises ValueError where the data does not suffice."""
        corpus, tokenizer, settings, groups = prepared.corpus, prepared.tokenizer, self.settings, self.groups
        gpt = GPTConfig.derive(groups["model"], groups["arch"], tokenizer.vocab_size)
        partition = groups["data"].partition
        pools = partition.deal(corpus.sources(), len(corpus.source_names), settings.clients, settings.seed)
        shape = (settings.batch_size, gpt.sequence_len)
        validation = Validation(_held_out(prepared), tokenizer.token_lengths(), shape, settings.eval_tokens)
        bytes_per_token = validation.bytes / validation.tokens
        tokens_per_row = 1 + corpus.train_bytes / corpus.train_rows / bytes_per_token
        parts = Parts(
            recipe=Recipe(f"{__name__}.{rebuilt.__name__}", OmegaConf.to_yaml(OmegaConf.create(self._config))),
            settings=settings,
            gpt=gpt,
            optim=groups["optim"],
            strategy=groups["strategy"],
            round=groups["round"],
            planner=groups["planner"],
            volatility=groups["volatility"],
            hardware=groups["hardware"],
            network=groups["network"],
            energy=groups["energy"],
            codec=groups["codec"],
            pools=pools,
            packing=groups["packing"],
            source=TextSource(corpus.texts, tokenizer.encode_batch, tokenizer.bos_id),
            validation=validation,
            tokenizer=tokenizer,
            store=store,
            coordination=groups["coordination"],
            tokens_per_row=tokens_per_row,
        )
        size = parts.message_bytes()
        sites = [parts.site(i, size) for i in range(settings.clients)]
        parts.round.check(sites, parts.tokens_per_step)
        if settings.budget != Budget():
            least = parts.round.least(sites, parts.strategy.quorum, parts.strategy.local_steps, parts.tokens_per_step)
            settings.budget.check(*least, real=not isinstance(self.runtime, Runtime))
        self.runtime.check(parts)
        return parts

    def resolved(self, cfg: DictConfig) -> dict[str, Any]:
        """The configuration as plain values, what the depth derives in place of null."""
        plain = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(plain, dict)
        return {**{str(key): value for key, value in plain.items() if key != "resume"}, **asdict(self.settings)}

    def _settings(self, cfg: DictConfig) -> Settings:
        given = {field.name: cfg[field.name] for field in fields(Settings) if field.name != BUDGET}
        given[BUDGET] = budget = Budget(**_budget(cfg))
        derives_rounds = given["rounds"] is None and not budget.ends_by_plan
        if derives_rounds and self.groups["round"].until != "steps":
            raise ValueError(
                f"rounds=null cannot follow from strategy.local_steps under round.until={self.groups['round'].until}; "
                "set rounds, budget.tokens or round.until=steps"
            )
        if (derives_rounds or given["batch_size"] is None) and given["clients"] >= 1:
            groups = self.groups
            batch_size, rounds = derived_shape(
                groups["model"],
                groups["tokenizer"].vocab_size,
                groups["arch"],
                given["clients"],
                groups["strategy"].local_steps,
                given["batch_size"],
            )
            given["batch_size"] = batch_size
            given["rounds"] = rounds if derives_rounds else given["rounds"]
        return Settings(**given)

    def _check_across(self) -> None:
        strategy, clients = self.groups["strategy"], self.settings.clients
        require_row(self.settings.eval_tokens, self.groups["model"].sequence_len)
        if strategy.quorum > clients:
            raise ValueError(
                f"strategy.quorum={strategy.quorum} can never be met by clients={clients}; lower it or add clients"
            )
        if (workers := self.groups["hardware"].workers) > max(1, clients):
            raise ValueError(f"hardware.workers={workers} are more than clients={clients}; use {clients} or fewer")
        if self.groups["round"].elastic and strategy.quorum > 1:
            raise ValueError(
                f"strategy.quorum={strategy.quorum} refuses what a client trains alone under round.elastic=true; "
                "use strategy.quorum=1 or round.elastic=false"
            )
        round_, codec = self.groups["round"], self.groups["codec"]
        if round_.elastic and round_.alone_merge == "adopt" and codec.name != LOSSLESS.name:
            raise ValueError(
                f"round.alone_merge=adopt submits weights, of which codec={codec.name} drops a part; use "
                "round.alone_merge=outer or codec=fp32"
            )
        self._check_overlap()
        # Draws the first windows: a client without a column, or parts that are never up together, show here.
        if Membership.draw(self.groups["volatility"], self.settings.names, self.settings.seed).never_up():
            raise ValueError(f"volatility={self.groups['volatility'].name}: none of the clients is ever up; change it")
        for index, client in enumerate(self.settings.names):
            self.groups["energy"].signals(client, index, self.groups["volatility"])
        shared = self.runtime.shared
        if (value := getattr(self.settings, shared)) % world():
            raise ValueError(
                f"{shared}={value} cannot be shared out among {world()} ranks; use a multiple, or another "
                "torchrun --nproc_per_node"
            )

    def _check_overlap(self) -> None:
        overlap, strategy, optim = self.groups["round"].overlap, self.groups["strategy"], self.groups["optim"]
        if not overlap:
            return
        if overlap > strategy.local_steps:
            raise ValueError(
                f"round.overlap={overlap} is more than the strategy.local_steps={strategy.local_steps} of the round it "
                "goes into; use that many at most"
            )
        if not strategy.overlaps:
            raise ValueError(
                f"round.overlap={overlap} is nothing that strategy={strategy.name} allows; use 0 or another strategy"
            )
        if optim.state != "keep":
            raise ValueError(
                f"round.overlap={overlap} goes on with an optimizer state that optim.state={optim.state} replaces; use "
                "optim.state=keep or round.overlap=0"
            )
        if self.settings.checkpoint_every == 1:
            raise ValueError(
                f"checkpoint_every=1 ends every round before a step of round.overlap={overlap}; use 2 or more, or "
                "round.overlap=0"
            )


def rebuilt(config: str) -> Parts:
    """The parts of a resolved configuration, as YAML, on data that is there."""
    cfg = OmegaConf.create(config)
    assert isinstance(cfg, DictConfig)
    experiment = Experiment(cfg)
    return experiment.parts(experiment.prepare(Silent()), MemoryStore())


def prepare_tokenizer(trainer: BpeTrainer, corpus: Corpus, progress: Progress) -> Tokenizer:
    """The tokenizer of this corpus, trained and stored beside its shards unless it is there."""

    def texts() -> Iterator[Any]:
        left = trainer.train_bytes
        progress.start("training the tokenizer", min(left, corpus.train_bytes), "bytes")
        for array in corpus.iter_texts("train"):
            if left <= 0:
                break
            ends = np.concatenate(([0], pc.binary_length(array).to_numpy().cumsum(dtype=np.int64)))
            # The document that reaches the limit is the last one.
            rows = min(int(np.searchsorted(ends, left)), len(array))
            yield array.slice(0, rows)
            progress.advance(int(ends[rows]))
            left -= int(ends[rows])
        progress.finish()

    return trainer.ensure(corpus.folder, corpus.sha256, texts)


def _held_out(prepared: Prepared) -> Iterator[Any]:
    """The validation documents as BOS and ids, read as far as they are wanted."""
    tokenizer = prepared.tokenizer
    for array in prepared.corpus.iter_texts("validation"):
        source = TextSource(lambda _, array=array: array, tokenizer.encode_batch, tokenizer.bos_id)  # type: ignore[misc]
        yield from source.documents(range(len(array)))


def _budget(cfg: DictConfig) -> Any:
    """The `budget` keys; none of runs older than them."""
    node = cfg.get(BUDGET)
    return OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node or {}


def _check_settings(cfg: DictConfig) -> None:
    names = [field.name for field in fields(Settings)]
    for key in cfg:
        if key not in names and key not in GROUPS and key not in ("name", "resume"):
            raise ValueError(f"{key!s}={cfg[key]} sets a key that does not exist; remove it")
    if cfg.get("resume") is not None:
        raise ValueError(f"resume={cfg.resume} is a word of the command line; give it there as resume=FOLDER")
    for key in names:
        if key != BUDGET:
            check_value(key, cfg[key], int | None if key in DERIVED else int)
    check_record(_budget(cfg), Budget, BUDGET)
    check_value("name", cfg.name, str)
    if not cfg.name or Path(cfg.name).name != cfg.name:
        raise ValueError(f"name={cfg.name} cannot name a folder; use letters, digits and dashes")
