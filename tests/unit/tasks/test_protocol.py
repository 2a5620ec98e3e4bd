"""`protocol=nanochat` beside a slow, plain version of nanochat's evaluation, on tasks in a bundle's format."""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fednano.model.arch import NANOCHAT, SEED
from fednano.model.gpt import GPT, GPTConfig
from fednano.tasks.bundle import read_bundle
from fednano.tasks.items import EvaluationTask, MultipleChoice
from fednano.tasks.protocol import FednanoProtocol, NanochatProtocol
from fednano.tasks.score import Judge, Scores, chosen, scores

T = 32  # of the model's rows in training
BOS = 256
NAMES = ("sun", "sunset", "moon", "sea", "seal", "tide", "wind")


def encode(text: str) -> list[int]:
    return [BOS, *text.encode()]


@pytest.fixture(scope="module", params=[SEED, NANOCHAT], ids=["seed", "nanochat"])
def model(request: pytest.FixtureRequest) -> GPT:
    config = GPTConfig(vocab_size=257, sequence_len=T, layers=2, width=64, heads=2, kv_heads=2, arch=request.param)
    made = GPT(config)
    made.init_weights(torch.Generator().manual_seed(3))
    with torch.no_grad():
        for parameter in made.parameters():  # at the start all outputs are equal
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)), alpha=0.1)
    made.read_up_to(10 * T)
    return made.eval()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Three kinds of tasks, among them choices that begin other choices, equal choices, and blanks at the ends."""
    draw = random.Random(0)
    pick, who, write = [], [], []
    for i in range(24):
        choices = [*draw.sample(NAMES, 3), draw.choice(("", "the end"))]
        pick.append({"query": f"Item {i}, then", "choices": choices, "gold": draw.randrange(4)})
        contexts = [f"The {draw.choice(NAMES)} number {i}", f"A {draw.choice(NAMES)}"]
        who.append({"context_options": contexts, "gold": draw.randrange(2), "continuation": f"is {draw.choice(NAMES)}"})
        write.append({"context": f" {i} is{' ' * (i % 3)}", "continuation": draw.choice(("a", "\x00", "e"))})
    (tmp_path / "eval_data").mkdir()
    for name, items in {"pick": pick, "who": who, "write": write}.items():
        (tmp_path / "eval_data" / f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    entries = [
        {"label": "pick", "dataset_uri": "pick.jsonl", "num_fewshot": [0], "icl_task_type": "multiple_choice"},
        {"label": "pick more", "dataset_uri": "pick.jsonl", "num_fewshot": [4, 7], "icl_task_type": "multiple_choice"},
        {"label": "who", "dataset_uri": "who.jsonl", "num_fewshot": [2], "icl_task_type": "schema"},
        {"label": "write", "dataset_uri": "write.jsonl", "num_fewshot": [3], "icl_task_type": "language_modeling"},
    ]
    entries[1]["continuation_delimiter"] = "\nAnswer: "
    (tmp_path / "core.yaml").write_text(json.dumps({"icl_tasks": entries}))
    rows = "".join(f"{entry['label']},x,0,25\n" for entry in entries)
    (tmp_path / "eval_meta_data.csv").write_text("Eval Task,Task Category,#shots,Random baseline\n" + rows)
    return tmp_path


def plainly(bundle: Path, model: GPT, most: int, cap: int | None) -> dict[str, list[bool]]:
    """Whether each item is right, by label, in nanochat's order: one text at a time, and every token's loss by hand."""
    found = {}
    for entry in json.loads((bundle / "core.yaml").read_text())["icl_tasks"]:
        data = [json.loads(line) for line in (bundle / "eval_data" / entry["dataset_uri"]).read_text().splitlines()]
        random.Random(1337).shuffle(data)
        data = data[:most] if most > 0 else data
        found[entry["label"]] = [is_right(data, at, entry, model, cap) for at in range(len(data))]
    return found


def is_right(data: list[Any], at: int, entry: dict[str, Any], model: GPT, cap: int | None) -> bool:
    item, shots = data[at], entry["num_fewshot"][0]
    drawn = random.Random(1234 + at).sample([i for i in range(len(data)) if i != at], shots)
    between = entry.get("continuation_delimiter", " ")
    kind = entry["icl_task_type"]

    def line(one: Any, choice: int) -> str:
        if kind == "multiple_choice":
            return one["query"] + between + one["choices"][choice]
        if kind == "schema":
            return one["context_options"][choice] + between + one["continuation"]
        return one["context"].strip() + between + one["continuation"]

    before = "".join(line(data[i], data[i].get("gold", 0)) + "\n\n" for i in drawn)
    if kind == "language_modeling":
        written = len(encode((before + item["context"].strip() + between).strip()))
        row = encode(before + line(item, 0))
        cut = max(0, len(row) - cap) if cap else 0
        _, greedy = every_token(row[cut:], model)
        return all(greedy[written - cut :])
    rows = [encode(before + line(item, choice)) for choice in range(len(item.get("choices", "ab")))]
    spans = []
    for row in rows:
        if kind == "multiple_choice":
            start = next((i for i in range(min(map(len, rows))) if len({r[i] for r in rows}) > 1), min(map(len, rows)))
        else:
            end = next(i for i in range(1, 1 + min(map(len, rows))) if len({r[-i] for r in rows}) > 1)
            start = len(row) - end + 1
        spans.append(start)
    means = []
    for row, start in zip(rows, spans, strict=True):
        cut = max(0, len(row) - cap) if cap else 0
        losses = every_token(row[cut:], model)[0][start - cut :]
        means.append(sum(losses) / len(losses) if losses else math.nan)
    return bool(means.index(min(means)) == item["gold"])


def every_token(row: list[int], model: GPT) -> tuple[list[float], list[bool]]:
    """(nats, whether it is the most probable) of each token; of the first, which follows nothing, NaN and False."""
    with torch.no_grad():
        logits = model.logits(torch.tensor([row]))[0].double()
    losses = [float(torch.logsumexp(now, 0) - now[token]) for now, token in zip(logits, row[1:], strict=False)]
    greedy = [int(now.argmax()) == token for now, token in zip(logits, row[1:], strict=False)]
    return [math.nan, *losses], [False, *greedy]


def measured(bundle: Path, model: GPT, protocol: NanochatProtocol, most: int | None) -> dict[str, Scores]:
    def logits(tokens: Tensor, *, first: int) -> Tensor:
        return model.logits(tokens, first=first)

    judge = Judge(
        logits=logits, encode=encode, longest=protocol.longest(T), least=protocol.least, device=torch.device("cpu")
    )
    tasks = [task for task in read_bundle(bundle) if protocol.measures(task)]
    return {task.label: scores(judge, task, protocol, most, 0, lambda _: None) for task in tasks}


@pytest.mark.parametrize(("most", "cap"), [(None, None), (9, None), (None, 40), (9, 40)])
def test_every_item_is_judged_as_nanochat_judges_it(
    bundle: Path, model: GPT, most: int | None, cap: int | None
) -> None:
    found = measured(bundle, model, NanochatProtocol(max_seq_len=cap), most)
    expected = plainly(bundle, model, most or -1, cap)
    assert [list(scored.right) for scored in found.values()] == list(expected.values())
    assert list(found) == ["pick", "pick more (4-shot)", "who", "write"], "the first number of examples alone"
    assert len({tuple(rights) for rights in expected.values()}) == 4
    assert any(map(any, (scored.cut for scored in found.values()))) == (cap is not None)


def test_the_draws_are_those_of_pythons_generator() -> None:
    items = [MultipleChoice(f"q{i}", ("a", "b"), 0) for i in range(10)]
    task = EvaluationTask(label="t", items=items, shots=3, delimiter=" ", baseline=0.5)
    protocol = NanochatProtocol()
    assert protocol.chosen(task, None, seed=5) == [0, 3, 7, 2, 1, 6, 4, 5, 8, 9]  # random.Random(1337).shuffle
    assert protocol.chosen(task, 4, seed=6) == [0, 3, 7, 2]
    assert protocol.examples(task, [0, 3, 7, 2], 0, seed=5) == [7, 3, 2]  # random.Random(1234).sample
    assert protocol.examples(task, [0, 3, 7, 2], 2, seed=6) == [2, 3, 0]  # random.Random(1236).sample


def test_too_few_items_for_the_examples_are_refused() -> None:
    items = [MultipleChoice(f"q{i}", ("a", "b"), 0) for i in range(10)]
    task = EvaluationTask(label="t", items=items, shots=4, delimiter=" ", baseline=0.5)
    assert len(NanochatProtocol().chosen(task, 5, 0)) == 5
    with pytest.raises(ValueError, match=r"max_items must be > 4 with protocol=nanochat, got 4: task t draws 4 exam"):
        NanochatProtocol().chosen(task, 4, 0)


def test_texts_are_as_long_as_the_protocol_says() -> None:
    assert (
        FednanoProtocol().longest(T),
        NanochatProtocol().longest(T),
        NanochatProtocol(max_seq_len=T).longest(T),
    ) == (T + 1, 10 * T, T)
    with pytest.raises(ValueError, match=f"protocol.max_seq_len must be <= {10 * T}, 10 times the model's rows, got"):
        NanochatProtocol(max_seq_len=10 * T + 1).longest(T)


@pytest.mark.parametrize(
    "losses", [[2.0, 1.0, 1.0], [math.nan, 1.0], [1.0, math.nan, 0.5], [math.nan, math.nan], [3.0, math.nan]]
)
def test_a_nan_is_chosen_as_pythons_min_chooses_it(losses: Sequence[float]) -> None:
    assert chosen(losses) == losses.index(min(losses))


def test_a_model_reads_further_as_a_longer_model_would(model: GPT) -> None:
    tokens = torch.randint(0, 257, (1, 3 * T), generator=torch.Generator().manual_seed(1))
    config = GPTConfig(**{**vars(model.config), "sequence_len": 3 * T})
    longer = GPT(config)
    longer.load_state_dict(model.state_dict())
    with torch.no_grad():
        mine, theirs = model.logits(tokens), longer.logits(tokens)
    torch.testing.assert_close(mine[:, : T + 1], theirs[:, : T + 1])
    assert not torch.allclose(mine[:, 2 * T :], theirs[:, 2 * T :]), "windows stay those of the rows in training"
