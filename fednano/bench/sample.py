"""Sampling with a cache, compared with reading the whole context again for every token."""

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
from fednano.report.terminal.printer import printer

GREEDY = Sampling(temperature=0)
NEVER = -1  # no id ends the text


@torch.inference_mode()
def uncached(model: GPT, prompt: Sequence[int], tokens: int) -> list[int]:
    """The most probable continuation, the obvious way: reads the context again for every token."""
    T = model.config.sequence_len
    text = list(prompt[-T:])
    begin, start = len(text), 0
    for _ in range(tokens):
        start = context_start(start, len(text), T)
        read = torch.tensor([text[start:]], device=model.embedding.weight.device)
        text.append(int(model.logits(read, first=-1).argmax()))
    return text[begin:]


def cached(model: GPT, prompt: Sequence[int], tokens: int) -> list[int]:
    """The same continuation by `generate`."""
    return [step[0] for step in generate(model, prompt, tokens, 1, GREEDY, NEVER) if step[0] is not None]


def random_model(depth: int, sequence_len: int, vocab_size: int) -> GPT:
    """A model without zero weights, so that its choices depend on the whole context."""
    model = GPT(GPTConfig.derive(Depth(depth, sequence_len), SEED, vocab_size))
    draw = torch.Generator().manual_seed(0)
    model.init_weights(draw)
    for name, parameter in model.named_parameters():
        if "c_proj" in name or name == "head.weight":
            torch.nn.init.normal_(parameter, std=model.config.width**-0.5, generator=draw)
    return model


def measure(
    depth: int, sequence_len: int, vocab_size: int, prompt: int, tokens: int, repeats: int, device: str = "cpu"
) -> dict[str, float]:
    """Medians over `repeats` rounds, after an unmeasured one; each round times both ways once.

    Returns:
        tokens_per_s and uncached_tokens_per_s of one sample after `prompt` tokens, including reading them; ratio.

    Raises:
        ValueError: the two ways give different tokens.
    """
    model = random_model(depth, sequence_len, vocab_size).to(device)
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
        raise ValueError(
            f"--depth={depth} must give the same tokens with and without a cache, but does not; report this as a bug"
        )
    median = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "tokens_per_s": tokens / median["cached"],
        "uncached_tokens_per_s": tokens / median["uncached"],
        "ratio": median["uncached"] / median["cached"],
    }


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fednano.bench sample", description="Compare generating text with a cache and without one."
    )
    parser.add_argument("--depth", type=int, default=4, help="layers of the model")
    parser.add_argument("--sequence-len", type=int, default=512, help="tokens of context")
    parser.add_argument("--prompt", type=int, default=256, help="tokens in the prompt")
    parser.add_argument("--vocab-size", type=int, default=4096, help="size of the vocabulary")
    parser.add_argument("--tokens", type=int, default=256, help="tokens to generate")
    parser.add_argument("--repeats", type=int, default=5, help="measured repeats of each way")
    parser.add_argument("--device", default="cpu", help="torch device, such as cpu or cuda")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    chosen = parser.parse_args(arguments)
    size = chosen.depth, chosen.sequence_len, chosen.vocab_size
    figures = measure(*size, chosen.prompt, chosen.tokens, chosen.repeats, chosen.device)
    if chosen.json:
        print(json.dumps(figures, indent=2))
        return
    lengths = f"{chosen.tokens} tokens after {chosen.prompt}"
    where = f"{torch.get_num_threads()} threads" if chosen.device == "cpu" else chosen.device
    title = f"{lengths}, d{chosen.depth}, {where}, medians of {chosen.repeats}"
    table = Table(title=title)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.1f}")
    printer().print(table)
