"""The reader of published CORE bundles: `core.yaml`, `eval_data/`, `eval_meta_data.csv`."""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fednano.config.paths import UserPath
from fednano.core.files import read_text, reading
from fednano.tasks.base import Documents
from fednano.tasks.items import EvaluationTask, Item, LanguageModelling, MultipleChoice, Schema, TooFewItemsError

INDEX, DATA, BASELINES = "core.yaml", "eval_data", "eval_meta_data.csv"
KINDS: dict[str, Callable[[dict[str, Any]], Item]] = {
    "multiple_choice": lambda r: MultipleChoice(str(r["query"]), _texts(r, "choices"), _gold(r, "choices")),
    "schema": lambda r: Schema(_texts(r, "context_options"), _gold(r, "context_options"), str(r["continuation"])),
    "language_modeling": lambda r: LanguageModelling(str(r["context"]), str(r["continuation"])),
}


@dataclass(frozen=True)
class Bundle:
    """The tasks of the bundle in the folder `path`."""

    path: UserPath

    def tasks(self, documents: Documents, seed: int) -> list[EvaluationTask]:
        return read_bundle(Path(self.path))


def read_bundle(folder: Path) -> list[EvaluationTask]:
    """The tasks of a bundle in the order of its index, one per number of examples.

    Raises ValueError, naming file and place, for a missing or malformed part.
    """
    for name in (INDEX, DATA, BASELINES):
        if not (folder / name).exists():
            raise ValueError(f"tasks={folder} has no {name}; name the folder of a CORE bundle, or use tasks=builtin")
    entries = _entries(folder / INDEX)
    baselines = _baselines(folder / BASELINES)
    try:
        return [task for entry in entries for task in _tasks(folder, entry, baselines)]
    except TooFewItemsError as error:  # the bundle's own mistake, not a lack of the corpus
        raise ValueError(str(error)) from None


def _entries(path: Path) -> list[dict[str, Any]]:
    with reading(path, "take the bundle's own file"):
        index = OmegaConf.to_container(OmegaConf.load(path))
    entries = index.get("icl_tasks") if isinstance(index, dict) else None
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path} lists no icl_tasks; take the bundle's own file")
    return entries


def _tasks(folder: Path, entry: dict[str, Any], baselines: dict[str, float]) -> Iterator[EvaluationTask]:
    where = folder / INDEX
    missing = {"label", "dataset_uri", "num_fewshot", "icl_task_type"} - set(entry)
    if missing:
        raise ValueError(f"{where} has an entry without {', '.join(sorted(missing))}: {entry}; complete it")
    label, kind = entry["label"], entry["icl_task_type"]
    if kind not in KINDS:
        raise ValueError(f"{where}: {label} has icl_task_type={kind}; use one of {', '.join(KINDS)}")
    if label not in baselines:
        raise ValueError(f"{folder / BASELINES} has no Eval Task named {label}; add its row")
    items = list(_items(_inside(folder / DATA, entry["dataset_uri"], where), KINDS[kind]))
    for variant, shots in enumerate(entry["num_fewshot"]):
        name = label if len(entry["num_fewshot"]) == 1 else f"{label} ({shots}-shot)"
        yield EvaluationTask(
            label=name,
            items=items,
            shots=shots,
            delimiter=entry.get("continuation_delimiter", " "),
            baseline=baselines[label],
            variant=variant,
        )


def _inside(data: Path, uri: Any, where: Path) -> Path:
    """The file that an entry names, which must lie in the bundle's data folder."""
    path = data / str(uri)
    if "\x00" in str(uri) or not path.resolve().is_relative_to(data.resolve()):
        raise ValueError(f"{where} must name files in {DATA}, got {uri!r}; take the bundle's own file")
    return path


def _items(path: Path, make: Callable[[dict[str, Any]], Item]) -> Iterator[Item]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist; complete the bundle or take the task out of {INDEX}")
    for number, line in enumerate(read_text(path, "take the bundle's own file").split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield make(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}, line {number} is no item of its kind ({error!r}); mend it") from error


def _baselines(path: Path) -> dict[str, float]:
    """The random baselines by task, as shares; the file has them in per cent."""
    found = {}
    with reading(path, "take the bundle's own file"), path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            try:
                found[row["Eval Task"]] = float(row["Random baseline"]) / 100
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path} has a row {row} without a Random baseline ({error!r}); mend it") from error
    return found


def _texts(record: dict[str, Any], key: str) -> tuple[str, ...]:
    if not isinstance(record[key], list) or len(record[key]) < 2:
        raise ValueError(f"{key} is no list of two or more")
    return tuple(map(str, record[key]))


def _gold(record: dict[str, Any], key: str) -> int:
    gold = record["gold"]
    if not isinstance(gold, int) or not 0 <= gold < len(record[key]):
        raise ValueError(f"gold={gold!r} is no index of {key}")
    return gold
