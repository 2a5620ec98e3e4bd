"""Generation: the cache against the whole context, the choice of tokens by hand."""

import itertools
import math

import pytest
import torch

from fednano.bench.sample import NEVER, cached, measure, random_model, uncached
from fednano.model.arch import NANOCHAT, SEED, Arch
from fednano.model.generate import Sampling, context_start, generate
from fednano.model.gpt import GPT, GPTConfig
from fednano.model.scaling import Depth


@pytest.fixture(scope="module")
def model() -> GPT:
    return random_model(2, 16, 300)


@pytest.mark.parametrize("prompt", [1, 2, 7, 15, 16, 17, 40])
def test_the_cache_changes_no_token(model: GPT, prompt: int) -> None:
    text = [(7 * i + 3) % 300 for i in range(prompt)]
    found = cached(model, text, 60)
    assert found == uncached(model, text, 60)
    assert len(set(found)) > 10


# The second has windows of 128 tokens in all layers but the last.
@pytest.mark.parametrize(("arch", "length"), [(SEED, 16), (NANOCHAT, 256)])
def test_a_text_read_in_pieces_gives_the_logits_of_the_whole(arch: Arch, length: int) -> None:
    grouped = GPT(GPTConfig.derive(Depth(4, sequence_len=length, kv_groups=2), arch, 300))
    drawn = torch.Generator().manual_seed(0)
    state = {k: torch.randn(v.shape, generator=drawn) / 16 for k, v in grouped.state_dict().items()}
    grouped.load_state_dict(state)
    tokens = torch.randint(0, 300, (2, length), generator=torch.Generator().manual_seed(1))
    cache = grouped.new_cache()
    pieces = [grouped.logits(piece, cache) for piece in tokens.split([5, 1, 3, length - 10, 1], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), grouped.logits(tokens), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pieces[-1][:, -1:], grouped.logits(tokens, first=-1), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=rf"<= model\.sequence_len={length} tokens, got {length + 1}"):
        grouped.logits(tokens[:, :1], cache)


def test_a_full_context_goes_on_with_its_last_half() -> None:
    starts = list(itertools.accumulate(range(1, 30), lambda start, n: context_start(start, n, 8), initial=0))[1:]
    lengths = [n - start for n, start in zip(range(1, 30), starts, strict=True)]
    assert lengths == [*range(1, 9), *[4, 5, 6, 7, 8] * 4, 4]


def test_the_prompt_is_read_once_and_every_token_once(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    original = GPT.features
    monkeypatch.setattr(
        GPT, "features", lambda self, t, cache: shapes.append(tuple(t.shape)) or original(self, t, cache)
    )
    list(generate(model, [1, 2, 3], 5, 4, Sampling(), NEVER))
    assert shapes == [(1, 3), (4, 1), (4, 1), (4, 1), (4, 1)]


def test_a_sample_does_not_depend_on_how_many_there_are(model: GPT) -> None:
    def columns(samples: int, seed: int = 0, name: int = 0) -> list[tuple[int | None, ...]]:
        steps = generate(model, [5, 6], 20, samples, Sampling(seed=seed), NEVER, name)
        return list(zip(*steps, strict=True))

    four = columns(4)
    assert columns(1) == four[:1]
    assert len(set(four)) == 4
    assert columns(4) == four
    assert columns(1, seed=1) != four[:1]
    assert columns(1, name=1) != four[:1]


def test_an_ended_sample_stays_ended_and_the_last_ends_all(model: GPT) -> None:
    free = [tuple(step) for step in generate(model, [5], 30, 2, Sampling(), NEVER)]
    stop = free[3][0]
    assert stop is not None
    steps = list(generate(model, [5], 30, 2, Sampling(), stop))
    first = [step[0] for step in steps]
    end = first.index(None)
    assert end <= 3
    assert first[end:] == [None] * (len(steps) - end)
    assert all(stop not in step for step in steps)
    assert list(generate(model, [5], 30, 1, Sampling(temperature=0), uncached(model, [5], 1)[0])) == []


LOGITS = torch.tensor([[0.5, 0.125, 0.25, 0.0625, 0.0625]]).log()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [8, 2, 4, 1, 1]),
        ({"top_k": 2}, [2, 0, 1, 0, 0]),
        ({"top_k": 9}, [8, 2, 4, 1, 1]),
        ({"top_p": 0.5}, [1, 0, 0, 0, 0]),
        ({"top_p": 0.6}, [2, 0, 1, 0, 0]),
        ({"top_p": 0.8}, [4, 1, 2, 0, 0]),
        ({"top_k": 3, "top_p": 0.58}, [2, 0, 1, 0, 0]),
        ({"temperature": 0.5}, [64, 4, 16, 1, 1]),
    ],
)
def test_probabilities_by_hand(settings: dict, expected: list[float]) -> None:
    found = Sampling(**{"temperature": 1.0, "top_k": 0, **settings}).probabilities(LOGITS)[0]
    assert found.tolist() == pytest.approx([value / sum(expected) for value in expected], abs=1e-6)


def test_draws_follow_the_probabilities() -> None:
    sampling, draw = Sampling(temperature=1.0, top_k=0), torch.Generator().manual_seed(0)
    counts = torch.bincount(torch.tensor([sampling.choose(LOGITS, [draw])[0] for _ in range(2000)]), minlength=5)
    assert (counts / 2000).tolist() == pytest.approx([0.5, 0.125, 0.25, 0.0625, 0.0625], abs=0.04)
    assert Sampling(temperature=0).choose(LOGITS, [draw]) == [0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": -0.5}, "temperature must be >= 0, got -0.5"),
        ({"temperature": math.nan}, "temperature must be >= 0, got nan"),
        ({"top_k": -1}, "top_k must be >= 0, got -1"),
        ({"top_p": 0.0}, "top_p must be > 0 and <= 1, got 0.0"),
        ({"top_p": 1.5}, "top_p must be > 0 and <= 1, got 1.5"),
    ],
)
def test_bad_settings_name_key_value_and_remedy(settings: dict, words: str) -> None:
    with pytest.raises(ValueError, match=rf"^{words}; use "):
        Sampling(**settings)


def test_the_bench_compares_equal_texts() -> None:
    figures = measure(depth=1, sequence_len=8, vocab_size=300, prompt=3, tokens=12, repeats=1)
    assert figures["ratio"] == pytest.approx(figures["tokens_per_s"] / figures["uncached_tokens_per_s"])
