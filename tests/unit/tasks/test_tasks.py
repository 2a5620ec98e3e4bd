"""In-context tasks against cases worked by hand, and a bundle that was made up."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fednano.tasks.builtin import builtin_tasks, last_words, next_sentences
from fednano.tasks.bundle import read_bundle
from fednano.tasks.items import EvaluationTask, ItemTexts, LanguageModelling, LeftOut, MultipleChoice, Schema
from fednano.tasks.protocol import FednanoProtocol
from fednano.tasks.score import Judge, common_prefix, prefix_spans, scores, suffix_spans

BOS = 26
CPU = torch.device("cpu")
OWN = FednanoProtocol()


def encode(text: str) -> list[int]:
    """BOS and a token for each letter; blanks are no tokens."""
    return [BOS, *(ord(letter) - ord("a") for letter in text if letter.isalpha())]


def stub(chances: dict[str, dict[str, float]]) -> Judge:
    """A model whose next letter depends on the last one alone; what `chances` leaves goes to BOS."""

    def logits(tokens: Tensor, *, first: int) -> Tensor:
        rows = torch.zeros(27, 27)
        for letter, following in chances.items():
            for other, chance in following.items():
                rows[ord(letter) - 97, ord(other) - 97] = chance
        rows[:, BOS] = 1 - rows.sum(1)
        return rows.clamp(min=1e-9).log()[tokens[:, first:]]

    return Judge(logits=logits, encode=encode, longest=17, least=1, device=CPU)


def right(judge: Judge, *items: MultipleChoice | Schema | LanguageModelling) -> list[bool]:
    task = EvaluationTask(label="stub", items=items, shots=0, delimiter=" ", baseline=0.0)
    return list(scores(judge, task, OWN, None, 0, lambda _: None).right)


def test_multiple_choice_takes_the_least_mean_loss() -> None:
    # "b" costs ln 4; "c d" costs (ln 2 + ln 2) / 2 = ln 2, though as much in sum: the mean decides.
    judge = stub({"a": {"b": 0.25, "c": 0.5}, "c": {"d": 0.5}})
    assert right(judge, MultipleChoice("a", ("b", "c d"), 1), MultipleChoice("a", ("b", "c d"), 0)) == [True, False]
    judge = stub({"a": {"b": 0.25, "c": 0.5}, "c": {"d": 0.1}})  # (ln 2 + ln 10) / 2 = ln 4.47
    assert right(judge, MultipleChoice("a", ("b", "c d"), 0)) == [True]


def test_multiple_choice_leaves_the_common_beginning_out() -> None:
    # Counting the shared "x" (ln 100) would favour the longer choice: ln 100 + ln 2 over 2 > ln 100 + 2 ln 3 over 3.
    judge = stub({"a": {"x": 0.01}, "x": {"b": 0.5, "c": 1 / 3}, "c": {"d": 1 / 3}})
    assert right(judge, MultipleChoice("a", ("x b", "x c d"), 0)) == [True]


def test_schema_compares_the_common_end() -> None:
    # After "b" the continuation "y z" costs ln 2 + ln 2, after "c" ln 8 + ln 2; the contexts themselves do not count.
    judge = stub({"a": {"b": 0.01, "c": 0.9}, "b": {"y": 0.5}, "c": {"y": 0.125}, "y": {"z": 0.5}})
    assert right(judge, Schema(("a b", "a c"), 0, "y z"), Schema(("a a c", "a b"), 0, "y z")) == [True, False]


def test_language_modelling_wants_every_token_the_most_probable() -> None:
    judge = stub({"a": {"b": 0.6, "c": 0.3}, "b": {"c": 0.4, "d": 0.5}})
    items = [LanguageModelling("a ", "b"), LanguageModelling("a", "b d"), LanguageModelling("a", "b c")]
    assert right(judge, *items) == [True, True, False]


def test_spans_by_hand() -> None:
    assert common_prefix([[1, 2, 3], [1, 2, 4, 5]]) == 2
    assert prefix_spans([[1, 2, 3], [1, 2, 4, 5]]) == [(2, 3), (2, 4)]
    assert prefix_spans([[1, 2], [1, 2, 4]]) == [(1, 2), (1, 3)]  # one is the other's beginning: its last still counts
    assert suffix_spans([[1, 9, 3, 4], [1, 7, 7, 3, 4]]) == [(2, 4), (3, 5)]
    assert suffix_spans([[1, 2], [1, 3]]) == [(1, 2), (1, 2)]


def test_accuracy_is_centred_and_counts_what_was_cut() -> None:
    judge = stub({"a": {"b": 0.6, "c": 0.3}})
    long = "z" * 40 + "a"
    items = [
        MultipleChoice("a", ("b", "c", "d", "e"), 0),
        MultipleChoice(long, ("c", "b", "d", "e"), 1),
        MultipleChoice("a", ("c", "b", "d", "e"), 0),
        MultipleChoice("a", ("d", "b", "c", "e"), 1),
    ]
    task = EvaluationTask(label="four", items=items, shots=0, delimiter=" ", baseline=0.25)
    steps: list[int] = []
    found = scores(judge, task, OWN, 100, 0, steps.append)
    assert (found.accuracy, found.right, found.cut) == (0.75, (True, True, False, True), (False, True, False, False))
    assert steps == [1] * 4
    assert task.centred(0.75) == pytest.approx(2 / 3)
    assert task.centred(0.25) == 0.0
    assert len(scores(judge, task, OWN, 2, 0, steps.append).right) == 2
    assert OWN.chosen(task, 2, 0) == OWN.chosen(task, 2, 0)
    assert OWN.chosen(task, None, 0) == [0, 1, 2, 3]


def test_examples_are_drawn_without_the_item_itself() -> None:
    items = [LanguageModelling(f" question {i} ", f"answer {i}") for i in range(6)]
    task = EvaluationTask(label="few", items=items, shots=3, delimiter="\nA: ", baseline=0.0)

    def texts_of(index: int, seed: int) -> ItemTexts:
        return task.texts(index, OWN.examples(task, range(6), index, seed))

    for index in range(6):
        texts = texts_of(index, 0)
        *examples, last = texts.complete[0].split("\n\n")
        assert last == f"question {index}\nA: answer {index}"
        assert texts.stem == "\n\n".join([*examples, f"question {index}\nA:"])
        assert len(set(examples)) == 3
        assert last not in examples
        assert set(examples) < {f"question {i}\nA: answer {i}" for i in range(6)}
        assert texts_of(index, 0) == texts
    assert len({texts_of(0, seed).complete for seed in range(8)}) > 4
    with pytest.raises(
        ValueError, match="num_fewshot of task few must be >= 0 and < 6, its number of items, got 6; lower"
    ):
        EvaluationTask(label="few", items=items, shots=6, delimiter=" ", baseline=0.0)


# The bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "eval_data" / "deep").mkdir(parents=True)
    (tmp_path / "core.yaml").write_text(
        "icl_tasks:\n"
        "- {label: pick, dataset_uri: deep/pick.jsonl, num_fewshot: [0, 1], icl_task_type: multiple_choice,\n"
        '   continuation_delimiter: "\\nAnswer: "}\n'
        "- {label: who, dataset_uri: who.jsonl, num_fewshot: [0], icl_task_type: schema}\n"
        "- {label: write, dataset_uri: write.jsonl, num_fewshot: [1], icl_task_type: language_modeling}\n"
    )
    (tmp_path / "eval_meta_data.csv").write_text(
        "Eval Task,Task Category,#shots,Random baseline\npick,x,10,50\nwho,x,0,50\nwrite,x,0,0\n"
    )
    records = {
        "deep/pick": [
            {"query": "a", "choices": ["b", "c"], "gold": 0},
            {"query": "a", "choices": ["b", "c"], "gold": 1},
        ],
        "who": [{"context_options": ["a b", "a c"], "gold": 0, "continuation": "y"}],
        "write": [{"context": "a", "continuation": "b"}, {"context": "a", "continuation": "c", "category": "more"}],
    }
    for name, items in records.items():
        text = "".join(json.dumps(item) + "\n" for item in items)
        (tmp_path / "eval_data" / f"{name}.jsonl").write_text(text)
    return tmp_path


def test_a_bundle_is_read_and_scored(bundle: Path) -> None:
    tasks = read_bundle(bundle)
    assert [(t.label, t.shots, t.baseline, len(t.items)) for t in tasks] == [
        ("pick (0-shot)", 0, 0.5, 2),
        ("pick (1-shot)", 1, 0.5, 2),
        ("who", 0, 0.5, 1),
        ("write", 1, 0.0, 2),
    ]
    assert [task.variant for task in tasks] == [0, 1, 0, 0]
    assert tasks[1].texts(0, [1]).complete == ("a\nAnswer: c\n\na\nAnswer: b", "a\nAnswer: c\n\na\nAnswer: c")
    judge = stub({"a": {"b": 0.6, "c": 0.3}, "b": {"y": 0.2}, "c": {"y": 0.1}})
    found = [task.centred(scores(judge, task, OWN, 9, 0, lambda _: None).accuracy) for task in tasks]
    # "Answer" ends in r, after which b and c are alike: the first is taken.
    assert found == [0.0, 0.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("core.yaml", "schema", "scheme", "icl_task_type=scheme; use one of multiple_choice"),
        ("core.yaml", "label: who", "label: whom", "no Eval Task named whom"),
        ("core.yaml", "icl_tasks", "tasks", "lists no icl_tasks"),
        ("core.yaml", "num_fewshot: [0]", "shots: [0]", "without num_fewshot"),
        ("core.yaml", "num_fewshot: [0, 1]", "num_fewshot: [0, 2]", "got 2; lower num_fewshot"),
        ("core.yaml", "who.jsonl", "whom.jsonl", "whom.jsonl does not exist"),
        ("core.yaml", "who.jsonl", "../core.yaml", "must name files in eval_data, got '../core.yaml'"),
        ("core.yaml", "who.jsonl", "/etc/passwd", "must name files in eval_data, got '/etc/passwd'"),
        ("core.yaml", "who.jsonl", '"a\\0b"', "must name files in eval_data, got 'a\\x00b'"),
        ("eval_meta_data.csv", "who,x,0,50", "who,x,0,", "without a Random baseline"),
        ("eval_meta_data.csv", "who,x,0,50", "who,x,0,100", "got 1.0; correct it"),
        ("eval_data/who.jsonl", '"gold": 0', '"gold": 2', "line 1 is no item of its kind"),
        ("eval_data/write.jsonl", '"context": "a", "continuation": "c"', '"context": "a"', "line 2 is no item"),
        ("eval_data/write.jsonl", "{", "[", "line 1 is no item"),
    ],
)
def test_a_damaged_bundle_is_refused(bundle: Path, file: str, old: str, new: str, words: str) -> None:
    text = (bundle / file).read_text()
    assert old in text
    (bundle / file).write_text(text.replace(old, new))
    with pytest.raises(ValueError) as caught:
        read_bundle(bundle)
    assert words in str(caught.value)


def test_byte_order_marks_and_other_line_ends_are_no_part_of_a_bundle(bundle: Path) -> None:
    plain = read_bundle(bundle)
    for file in bundle.rglob("*.*"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_bundle(bundle) == plain


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no core\.yaml; name the folder of a CORE bundle, or use tasks=builtin"):
        read_bundle(tmp_path)


# The built-in tasks

PARAGRAPH = "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen."


def test_the_last_word_of_a_paragraph() -> None:
    (item,) = last_words([[PARAGRAPH, "Too short a text.", f"{PARAGRAPH} And so to f(x)."]])
    assert item == LanguageModelling(PARAGRAPH.removesuffix(" fifteen."), "fifteen")


def test_the_next_sentence_among_those_of_other_documents() -> None:
    documents = [[f"The first sentence of text {i}. The second sentence of text {i}."] for i in range(5)]
    items = next_sentences(documents, seed=0)
    assert len(items) == 5
    for i, item in enumerate(items):
        assert isinstance(item, MultipleChoice)
        assert item.query == f"The first sentence of text {i}."
        assert item.choices[item.gold] == f"The second sentence of text {i}."
        assert len({choice[-2] for choice in item.choices}) == 4  # of four documents
    assert next_sentences(documents, seed=0) == items
    assert next_sentences(documents, seed=1) != items
    assert len({item.gold for item in items}) > 1
    assert next_sentences(documents[:3], seed=0) == []


def test_tasks_for_which_documents_do_not_suffice_are_left_out() -> None:
    assert builtin_tasks(["    def f(x):\n        return x"], seed=0) == [
        LeftOut("last_word", "it needs a paragraph of 15 to 119 words, which the held-out documents, 1, do not have"),
        LeftOut(
            "next_sentence",
            "it needs sentences of 4 documents, two of them in a row, which the held-out documents, 1, do not have",
        ),
    ]
    found = builtin_tasks([PARAGRAPH], 0)
    assert [(task.label, type(task)) for task in found] == [("last_word", EvaluationTask), ("next_sentence", LeftOut)]
    texts = [f"{PARAGRAPH}\n\nThe first sentence of text {i}. The next sentence of text {i}." for i in range(5)]
    assert [(task.label, len(task.items)) for task in builtin_tasks(texts, 0) if isinstance(task, EvaluationTask)] == [
        ("last_word", 5),
        ("next_sentence", 5),
    ]
