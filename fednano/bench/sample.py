"""Sampling with a cache against reading the whole context again for every token, in the same run."""

import argparse
import json
import statistics
from collections.abc import Sequence

import torch
from rich.table import Table

from fednano.core.clock import Stopwatch
from fednano.model.arch import SEED
from fednano.model.generate import Sampling, context_start, generate
from fednano.model.gpt import GPT, GPTConfig
from fednano.model.scaling import Depth
from fednano.report.printer import printer

GREEDY = Sampling(temperature=0)
NEVER = -1  # no id ends the text


@torch.inference_mode()
def uncached(model: GPT, prompt: Sequence[int], tokens: int) -> list[int]:
    """The most probable continuation, the obvious way: the context is read anew for every token."""
    T = model.config.sequence_len
    text = list(prompt[-T:])
    begin, start = len(text), 0
    for _ in range(tokens):
        start = context_start(start, len(text), T)
        text.append(int(model.logits(torch.tensor([text[start:]]), first=-1).argmax()))
    return text[begin:]


def cached(model: GPT, prompt: Sequence[int], tokens: int) -> list[int]:
    """The same by `generate`."""
    return [step[0] for step in generate(model, prompt, tokens, 1, GREEDY, NEVER) if step[0] is not None]


def random_model(depth: int, sequence_len: int, vocab_size: int) -> GPT:
    """A model with no weight at zero, whose choices depend on all that it has read."""
    model = GPT(GPTConfig.derive(Depth(depth, sequence_len), SEED, vocab_size))
    draw = torch.Generator().manual_seed(0)
    model.init_weights(draw)
    for name, parameter in model.named_parameters():
        if "c_proj" in name or name == "head.weight":
            torch.nn.init.normal_(parameter, std=model.config.width**-0.5, generator=draw)
    return model


def measure(depth: int, sequence_len: int, vocab_size: int, prompt: int, tokens: int, repeats: int) -> dict[str, float]:
    """Medians over `repeats` rounds in which both ways are timed once, after one unmeasured round.

    Returns:
        tokens_per_s and uncached_tokens_per_s of one sample behind `prompt` tokens, their reading included; ratio.

    Raises:
        ValueError: the two ways give different tokens.
    """
    model = random_model(depth, sequence_len, vocab_size)
    text = torch.arange(prompt).remainder(vocab_size).tolist()
    ways = {"cached": cached, "uncached": uncached}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, list[int]] = {}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            watch = Stopwatch()
            with watch:
                found[name] = way(model, text, tokens)
            if turn:
                seconds[name].append(watch.seconds)
    if found["cached"] != found["uncached"]:
        raise ValueError(f"--depth={depth} gives other tokens with a cache than without; this is a fault of the cache")
    median = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "tokens_per_s": tokens / median["cached"],
        "uncached_tokens_per_s": tokens / median["uncached"],
        "ratio": median["uncached"] / median["cached"],
    }


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m fednano.bench sample", description=__doc__)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--sequence-len", type=int, default=512)
    parser.add_argument("--prompt", type=int, default=256, help="tokens of the prompt")
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    chosen = parser.parse_args(arguments)
    size = chosen.depth, chosen.sequence_len, chosen.vocab_size
    figures = measure(*size, chosen.prompt, chosen.tokens, chosen.repeats)
    if chosen.json:
        print(json.dumps(figures, indent=2))
        return
    lengths = f"{chosen.tokens} tokens behind {chosen.prompt}"
    title = f"{lengths}, d{chosen.depth}, {torch.get_num_threads()} threads, medians of {chosen.repeats}"
    table = Table(title=title)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.1f}")
    printer().print(table)
