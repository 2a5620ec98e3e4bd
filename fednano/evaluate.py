"""The command that measures a run's model: bits per byte on held-out text, in total and by source, and tasks.

python -m fednano.evaluate model_dir=outputs/quickstart/… tasks=builtin
"""

from fednano.core.interrupts import end_at_signals

if __name__ == "__main__":  # first, since the imports below take a while
    end_at_signals()

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fednano.config.build import build_groups, plain
from fednano.config.compose import compose_config, with_hydra_flags
from fednano.config.errors import guarded
from fednano.config.quoting import quoted
from fednano.core.files import reading
from fednano.core.ranges import Range
from fednano.process.surroundings import settle

if TYPE_CHECKING:
    from fednano.core.progress import Progress
    from fednano.data.loader import Tokens
    from fednano.data.shards import Corpus
    from fednano.model.gpt import GPT
    from fednano.tasks.base import TaskSource
    from fednano.tasks.items import EvaluationTask, LeftOut
    from fednano.tasks.protocol import EvaluationProtocol
    from fednano.tokenizer import Tokenizer
    from fednano.training.hardware import Hardware

KEYS = {
    "model_dir": str,
    "eval_tokens": Annotated[int, Range(ge=1)] | None,
    "batch_size": Annotated[int, Range(ge=1, le=1_000_000)],
    "max_items": Annotated[int, Range(ge=1)] | None,
    "seed": int,
    "output": str | None,
}
GROUPS = ("data", "partition", "hardware", "tasks", "protocol")
NAMED = ("builtin", "bundle", "none")  # choices of `tasks`, even if a folder has the same name


@dataclass(frozen=True)
class Subject:
    """The subject of a measurement: a model on its device, its tokenizer, and its hardware."""

    model: "GPT"
    tokenizer: "Tokenizer"
    hardware: "Hardware"


def main(overrides: Sequence[str]) -> int:
    """Measure the model that `overrides` name, write and print the figures; returns the exit code."""
    cfg = compose_config(_with_bundle(overrides), "evaluate")
    _check(cfg)

    from fednano.report.terminal.console import RichProgress
    from fednano.report.terminal.evaluation import task_table, text_notes, text_table
    from fednano.report.terminal.printer import printer
    from fednano.training.checkpoint import load_model, load_tokenizer, write_json
    from fednano.training.model_folder import model_folder

    progress, console = RichProgress(), printer()
    folder = model_folder(Path(cfg.model_dir))
    run = _run_config(folder)
    dataset = build_groups(_with_data(cfg, run), ("data",))["data"]
    built = build_groups(cfg, ("hardware", "tasks", "protocol"))
    hardware, protocol = built["hardware"], built["protocol"]
    model = load_model(folder).to(hardware.use())
    subject = Subject(model, load_tokenizer(folder, model), hardware)
    target = Path(cfg.output) if cfg.output else folder.resolve().parent / "evaluation.json"
    longest = protocol.longest(model.config.sequence_len)
    dataset.check()
    corpus = dataset.ensure(progress)
    tasks = _planned(built["tasks"], corpus, protocol, cfg)
    eval_tokens = cfg.eval_tokens or (run.eval_tokens if run is not None and "eval_tokens" in run else sys.maxsize)
    if target.exists():
        console.print(f"{target} will be replaced; keep it with output=FILE", soft_wrap=True, highlight=False)
    validation = measure_held_out(subject, corpus, cfg.batch_size, eval_tokens, progress)
    console.print(text_table(validation))  # before the tasks, which may take long
    for note in text_notes(validation, corpus.source_names, eval_tokens):
        console.print(note, soft_wrap=True, highlight=False, markup=False)
    model.read_up_to(max(longest - 1, model.config.sequence_len))
    record = {
        "model_dir": str(folder),
        "corpus": {"name": corpus.name, "sha256": corpus.sha256},
        "seed": cfg.seed,
        "protocol": protocol.name,
        "validation": validation,
        **measure_tasks(subject, tasks, protocol, (cfg.max_items, cfg.seed), progress),
    }
    write_json(target, record)
    if record["tasks"]:
        console.print(task_table(record))
    for label, reason in record["left_out"].items():
        console.print(f"{label} is left out: {reason}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"written to {target}", soft_wrap=True)
    return 0


def _check(cfg: Any) -> None:
    from omegaconf import OmegaConf

    from fednano.config.checks import check_value, not_set
    from fednano.config.errors import shown

    if OmegaConf.is_missing(cfg, "model_dir"):
        raise ValueError("model_dir must be set; add model_dir=outputs/…, the folder of a run")
    for key in cfg:
        if key not in KEYS and key not in GROUPS:
            raise ValueError(f"{key!s}={shown(plain(cfg, str(key)))} sets a key that does not exist; remove it")
    for key, hint in KEYS.items():
        if key not in cfg.keys():  # noqa: SIM118  # a key set to ??? is not in the mapping itself
            raise ValueError(not_set(key, "+"))
        check_value(key, plain(cfg, key), hint)
    if cfg.output and Path(cfg.output).is_dir():
        raise ValueError(f"output must be a file, got the folder {cfg.output}; name a file in it")
    if cfg.output and not Path(cfg.output).resolve().parent.is_dir():
        parent = Path(cfg.output).parent
        raise ValueError(
            f"output must be in a folder that exists, got {cfg.output}; create {parent} or name another file"
        )


def _run_config(folder: Path) -> Any:
    """The resolved configuration of the run that wrote the model in `folder`; None if there is none."""
    from omegaconf import OmegaConf

    path = folder.resolve().parent / "config.yaml"
    if not path.is_file():
        return None
    with reading(path, "restore it, or move it away and add data=… as for the run"):
        return OmegaConf.load(path)


def _with_data(cfg: Any, run: Any) -> Any:
    """The configuration that names the corpus: the command's, or else the run's."""
    from fednano.config.recorded import check_recorded

    if cfg.get("data"):
        return cfg
    if run is None or "data" not in run:
        raise ValueError(
            f"model_dir must have a run's config.yaml beside it, got {cfg.model_dir}; add data=… as for the run"
        )
    check_recorded(run.data, f"model_dir={cfg.model_dir}: data")
    return run


def _with_bundle(overrides: Sequence[str]) -> list[str]:
    """The overrides, with `tasks=FOLDER` expanded to `tasks=bundle tasks.path=FOLDER`."""
    spelt = []
    for override in overrides:
        key, _, value = override.partition("=")
        folder = key == "tasks" and value not in NAMED and ("/" in value or Path(value.strip("'\"")).is_dir())
        # A folder's name is taken as it is; anything else may be quoted.
        path = quoted(value) if Path(value).is_dir() else value
        spelt += ["tasks=bundle", f"tasks.path={path}"] if folder else [override]
    return spelt


def _held_out_texts(corpus: "Corpus") -> list[str]:
    return [text for array in corpus.iter_texts("validation") for text in array.to_pylist()]


def _planned(
    source: "TaskSource", corpus: "Corpus", protocol: "EvaluationProtocol", cfg: Any
) -> "list[EvaluationTask | LeftOut]":
    """The tasks that `protocol` measures, and those that the corpus does not suffice for.

    Raises ValueError if tasks cannot be read, or `max_items` is too small for one of them.
    """
    from fednano.tasks.items import LeftOut, TooFewItemsError

    try:
        tasks = list(source.tasks(partial(_held_out_texts, corpus), cfg.seed))
    except TooFewItemsError as error:
        return [LeftOut(error.label, str(error))]
    tasks = [task for task in tasks if isinstance(task, LeftOut) or protocol.measures(task)]
    for task in tasks:
        if not isinstance(task, LeftOut):
            protocol.chosen(task, cfg.max_items, cfg.seed)
    return tasks


def measure_held_out(
    subject: Subject, corpus: "Corpus", batch_size: int, max_tokens: int, progress: "Progress"
) -> dict[str, Any]:
    """{"loss", "bpb", "tokens", "bytes"} of the held-out documents, and the same for each source under "sources".

    At most the first `max_tokens` tokens are used, in total and per source. A source shorter than the model's sequence
    is measured in one shorter row, and so is held-out text that is shorter as a whole.
    """
    T = subject.model.config.sequence_len
    documents: list[Tokens] = []
    by_source: dict[str, list[Tokens]] = {}
    for source, document in _held_out(subject.tokenizer, corpus):
        documents.append(document)
        by_source.setdefault(source, []).append(document)
    progress.start("measuring held-out text", len(by_source) + 1, "measurements")
    targets = sum(map(len, documents)) - 1
    row = targets if 0 < targets < T <= max_tokens else T
    whole = _measured(subject, documents, (batch_size, row), max_tokens)
    progress.advance(1)
    whole["sources"] = {}
    for source, own in sorted(by_source.items()):
        length = min(T, sum(map(len, own)) - 1, max_tokens)
        if length > 0:
            whole["sources"][source] = _measured(subject, own, (batch_size, length), max_tokens)
        progress.advance(1)
    progress.finish()
    return whole


def _held_out(tokenizer: "Tokenizer", corpus: "Corpus") -> "Iterator[tuple[str, Tokens]]":
    from fednano.data.loader import TextSource

    sources = iter(corpus.held_out_sources())
    for array in corpus.iter_texts("validation"):
        source = TextSource(lambda _, array=array: array, tokenizer.encode_batch, tokenizer.bos_id)  # type: ignore[misc]
        yield from zip(sources, source.documents(range(len(array))), strict=False)


def _measured(
    subject: Subject, documents: "Sequence[Tokens]", shape: tuple[int, int], max_tokens: int
) -> dict[str, Any]:
    from fednano.experiment.sizes import check_held_out
    from fednano.training.evaluate import Validation

    B, T = shape
    rows = min(B, max(1, min(sum(map(len, documents)), max_tokens) // T))
    check_held_out(subject.model.config, rows, T, subject.hardware.device)
    validation = Validation(documents, subject.tokenizer.token_lengths(), shape, max_tokens)
    device = next(subject.model.parameters()).device
    loss, bpb = validation.measure(subject.model, device, subject.hardware, lambda: None)
    return {"loss": loss, "bpb": bpb, "tokens": validation.tokens, "bytes": validation.bytes}


def measure_tasks(
    subject: Subject,
    tasks: "Sequence[EvaluationTask | LeftOut]",
    protocol: "EvaluationProtocol",
    draw: tuple[int | None, int],
    progress: "Progress",
) -> dict[str, Any]:
    """{"tasks": {label: figures}, "left_out": {label: reason}, "mean_centred"}; the mean is None without tasks.

    `draw` is (items of a task at most, seed). A task whose items do not fit into memory is left out.
    """
    from fednano.experiment.sizes import TooLargeError
    from fednano.tasks.items import LeftOut
    from fednano.tasks.score import Judge, scores

    model, tokenizer = subject.model.eval(), subject.tokenizer
    judge = Judge(
        logits=partial(_logits, subject),
        encode=lambda text: [tokenizer.bos_id, *tokenizer.encode(text).tolist()],
        longest=protocol.longest(model.config.sequence_len),
        least=protocol.least,
        device=next(model.parameters()).device,
    )
    found: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    for task in tasks:
        if isinstance(task, LeftOut):
            left_out[task.label] = task.reason
            continue
        progress.start(task.label, len(protocol.chosen(task, *draw)), "items")
        try:
            scored = scores(judge, task, protocol, *draw, progress.advance)
        except TooLargeError as error:
            left_out[task.label] = str(error)
            continue
        finally:
            progress.finish()
        found[task.label] = {
            "kind": type(task.items[0]).__name__,
            "shots": task.shots,
            "items": len(scored.right),
            "items_cut": sum(scored.cut),
            "accuracy": scored.accuracy,
            "baseline": task.baseline,
            "centred": task.centred(scored.accuracy),
            "right": "".join(str(int(right)) for right in scored.right),
        }
    centred = [figures["centred"] for figures in found.values()]
    mean = sum(centred) / len(centred) if centred else None
    return {"tasks": found, "left_out": left_out, "mean_centred": mean}


def _logits(subject: Subject, tokens: Any, *, first: int) -> Any:
    from fednano.experiment.sizes import check_task

    texts, length = tokens.shape
    check_task(subject.model.config, texts, length, length - first, subject.hardware.device)
    with subject.hardware.autocast():
        return subject.model.logits(tokens, first=first)


def _command() -> int:
    settle()
    return with_hydra_flags("evaluate", main)


if __name__ == "__main__":
    sys.exit(guarded(_command))
